/** Run a network file with onnxruntime-web: WebAssembly, with threads where the page is isolated from other origins. */

import * as ort from "../vendor/onnxruntime-web/ort.wasm.min.mjs";

const RUNTIME = new URL("../vendor/onnxruntime-web/", import.meta.url);
const MOST_THREADS = 4; // more gain little on one image

let runtime; // the promise that the WebAssembly file is here

/**
 * A loaded network.
 * @typedef {Object} Engine
 * @property {Object} network its entry in the manifest.
 * @property {(input: Tensor, codec: {name: string, output_names: string[]}) => Promise<Object<string, Tensor>>} run
 *   from one input to the outputs that a codec reads, by name.
 * @typedef {import("./preprocess.js").Tensor} Tensor
 */

/**
 * Fetch a network and make it ready.
 * @param {Object} network of the manifest.
 * @param {{base: string, headers: Object<string, string>}} place address of the folder with its file, and what is
 *   sent with requests to it.
 * @param {(bytes: number) => void} onBytes called with the number of bytes of each part that came.
 * @returns {Promise<Engine>}
 */
export async function loadEngine(network, { base, headers }, onBytes) {
  runtime ??= loadRuntime(onBytes).catch((error) => {
    runtime = undefined; // so that it can be tried again
    throw error;
  });
  const address = new URL(encodeURIComponent(network.file), base);
  const [file] = await Promise.all([fetched(address, onBytes, headers), runtime]);
  const session = await ort.InferenceSession.create(file);
  return { network, run: (input, codec) => run(session, network, input, codec) };
}

async function loadRuntime(onBytes) {
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
  ort.env.wasm.wasmPaths = RUNTIME.href;
  ort.env.wasm.wasmBinary = await fetched(new URL("ort-wasm-simd-threaded.wasm", RUNTIME), onBytes);
}

async function fetched(url, onBytes, headers = {}) {
  const answer = await fetch(url, { headers }).catch(() => null);
  if (!answer?.ok) throw new Error(`${url.pathname} cannot be fetched; check the connection and load the page again.`);
  const parts = [];
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    onBytes(value.length);
  }
}

async function run(session, network, { data, dims }, codec) {
  const single = session.outputNames.length === 1 && codec.output_names.length === 1;
  const names = single ? session.outputNames : codec.output_names; // public files call a single output as they like
  const found = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", data, dims) }, names);
  const outputs = {};
  codec.output_names.forEach((name, i) => {
    const tensor = found[names[i]];
    if (tensor.type === "float32" && !tensor.data.every(Number.isFinite)) {
      throw new Error(`The network ${network.name} gives NaN or infinite values; use another one.`);
    }
    outputs[name] = { data: tensor.data, dims: tensor.dims };
  });
  return outputs;
}
