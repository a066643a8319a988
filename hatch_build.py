"""Build hook: the files of npm packages that the page of `leanpose serve` loads, into leanpose/serve/page/vendor/.

npm fetches each package from the registry that it is set up for; the package is checked by the hash below, and a few
files are taken out of it. Nothing is fetched again while they are there. The base install never depends on this: where
npm is not installed, and in an editable install that cannot reach the registry, one line warns that the page will run
no networks in the browser. A wheel that npm cannot fetch for is not built, unless LEANPOSE_WITHOUT_BROWSER_FILES=1.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = Path("leanpose", "serve", "page", "vendor")
WITHOUT = "LEANPOSE_WITHOUT_BROWSER_FILES"
MARK = "integrity.txt"  # in the folder of a package: the hash of the package that its files are of
NPM = ("--silent", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")
LONGEST = 300  # seconds to fetch one package


class Package(NamedTuple):
    version: str
    integrity: str  # SHA-512 of the package, as `npm view NAME@VERSION dist.integrity` shows it
    files: tuple[str, ...]  # where they lie in the package
    license: str = ""  # a file of this repository, where the package has none


PACKAGES = {
    "onnxruntime-web": Package(  # on the CPU by WebAssembly, with SIMD and threads; others are for GPUs
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        ("dist/ort.wasm.min.mjs", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm"),
        license="licenses/onnxruntime-web.txt",
    ),
    "swagger-ui-dist": Package(  # the page /docs
        "5.35.0",
        "sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==",
        ("swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "favicon-32x32.png",
         "LICENSE", "NOTICE"),
    ),
}  # fmt: skip


class BrowserFiles(BuildHookInterface):  # type: ignore[type-arg]
    """What hatchling calls before it builds a wheel; an editable install is one too."""

    def initialize(self, version: str, build_data: Mapping[str, Any]) -> None:
        if os.environ.get(WITHOUT, "0") != "0":
            return
        try:
            for name in PACKAGES:
                provide(name, Path(self.root))
        except (OSError, ValueError) as error:
            if version != "editable" and not isinstance(error, FileNotFoundError):
                self.app.abort(f"{error}; connect to npm's registry, or set {WITHOUT}=1 to build without its files.")
            self.app.display_warning(f"{error}; the page of `leanpose serve` will run no networks in the browser.")


def provide(name: str, root: Path) -> None:
    """Put the files of a package into its folder in VENDOR, all or none, unless they are there.

    Raises:
        FileNotFoundError: npm is not installed.
        OSError: they cannot be fetched or written.
        ValueError: what came is not the package.
    """
    package, folder = PACKAGES[name], root / VENDOR / name
    names = [Path(file).name for file in package.files]
    mark = folder / MARK
    whole = all((folder / file).is_file() for file in names)
    if whole and mark.is_file() and mark.read_text() == package.integrity:
        return
    contents = fetch(name, package)
    temporary = folder.with_name(f".{secrets.token_hex(8)}")
    try:
        temporary.mkdir(parents=True)
        for file, content in zip(names, contents, strict=True):
            (temporary / file).write_bytes(content)
        if package.license:
            shutil.copyfile(root / package.license, temporary / "LICENSE")
        (temporary / MARK).write_text(package.integrity)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def fetch(name: str, package: Package) -> list[bytes]:
    """Return the contents of a package's files."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    with tempfile.TemporaryDirectory() as folder:
        words = [npm, "pack", f"{name}@{package.version}", "--pack-destination", folder, *NPM]
        try:
            subprocess.run(words, cwd=folder, check=True, timeout=LONGEST, capture_output=True)
        except subprocess.SubprocessError:
            raise ConnectionError(f"npm cannot fetch {name} {package.version}") from None
        (file,) = Path(folder).glob("*.tgz")
        digest = "sha512-" + base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
        if digest != package.integrity:
            raise ValueError(f"npm fetched another {name} {package.version} than the one whose hash is known")
        with tarfile.open(file) as archive:  # members are read, and written under names of ours; nothing is extracted
            members = [archive.extractfile(f"package/{path}") for path in package.files]
            return [member.read() for member in members if member]
