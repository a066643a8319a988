"""The command line: words, exit codes, one line for every bad input, and no torch for prediction."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from leanpose.commands import cli
from leanpose.commands.cli import COMMANDS, main, parse
from leanpose.errors import InputError, LeanposeError, install_line
from leanpose.keypoint_sets import COCO
from leanpose.weights.record import Weights

REPOSITORY = Path(__file__).parents[2]
ASTRONAUT = REPOSITORY / "docs" / "assets" / "astronaut.png"


def run(*words: str | Path, code: str | None = None, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, so that what C libraries print is seen too."""
    start = ["-m", "leanpose"] if code is None else ["-c", code]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, *start, *map(str, words)], capture_output=True, text=True, cwd=folder, env=environment
    )


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.trace,))


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A folder with every kind of file that cannot be used, and one good image, 40 x 60 pixels."""
    folder = tmp_path / "bad"
    folder.mkdir()
    image = np.random.default_rng(0).integers(0, 255, (60, 40, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "good.png"), image)
    cv2.imwrite(str(folder / "whole.jpg"), image)
    jpeg, png = (folder / "whole.jpg").read_bytes(), (folder / "good.png").read_bytes()
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "cut.png").write_bytes(png[: len(png) // 2])
    (folder / "damaged.png").write_bytes(png[:200] + bytes([png[200] ^ 255]) + png[201:])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("This is not an image.")
    (folder / "text").touch()
    (folder / "nothing.bmp").write_bytes(b"BM" + bytes(52))
    (folder / "folder.jpg").mkdir()
    (folder / "no_images").mkdir()
    (folder / "broken.json").write_text("{")
    (folder / "list.json").write_text("[[0, 0, 10, 10]]")
    (folder / "nan.json").write_text('{"good.png": [[NaN, 0, 10, 10]]}')
    (folder / "words.json").write_text('{"good.png": [["a", 0, 10, 10]]}')
    (folder / "coco.json").write_text('{"images": [{"id": 1}], "annotations": []}')
    (folder / "stranger.json").write_text(
        '{"images": [{"id": 1, "file_name": "good.png"}], "annotations": [{"image_id": 2, "bbox": [0, 0, 9, 9]}]}'
    )
    for name in ("pickle.onnx", "pickle.safetensors", "pickle.pth"):
        (folder / name).write_bytes(pickle.dumps(Harmful(tmp_path / "trace")))
    (folder / "zeros.onnx").write_bytes(bytes(1000))
    return folder


# words after `leanpose predict`, {} standing for the folder; part of the one line on stderr
BAD_INPUT: dict[str, tuple[list[str], str]] = {
    "missing file": (["{}/none.png"], "There is no image {}/none.png"),
    "glob without result": (["{}/*.webp"], "There is no image {}/*.webp"),
    "long name": (["x" * 300 + ".png"], "There is no image xxx"),
    "not an image": (["{}/text.jpg"], "{}/text.jpg is not an image"),
    "header only": (["{}/nothing.bmp"], "{}/nothing.bmp is not an image"),
    "cut JPEG": (["{}/cut.jpg"], "{}/cut.jpg is cut off"),
    "cut PNG": (["{}/cut.png"], "{}/cut.png is cut off"),
    "damaged PNG": (["{}/damaged.png"], "{}/damaged.png is damaged"),
    "empty file": (["{}/empty.png"], "{}/empty.png is empty"),
    "folder without images": (["{}/no_images"], "The folder {}/no_images holds no images"),
    "folder named like an image": (["{}/folder.jpg"], "The folder {}/folder.jpg holds no images"),
    "nobody at the URL": (["http://127.0.0.1:9/a.png"], "http://127.0.0.1:9/a.png cannot be read"),
    "no URL": (["http://a b/c.png"], "http://a b/c.png cannot be read"),
    "box outside": (["{}/good.png", "--boxes", "50,0,90,30"], "lies outside the image of 40 x 60 pixels"),
    "box without area": (["{}/good.png", "--boxes", "5,5,5,30"], "has no area"),
    "box upside down": (["{}/good.png", "--boxes", "5,30,25,5"], "has no area"),
    "NaN box": (["{}/good.png", "--boxes", "nan,0,9,9"], "Box 0 (nan, 0, 9, 9) has a coordinate that is not a number"),
    "infinite box": (["{}/good.png", "--boxes", "0,0,inf,9"], "has a coordinate that is not a number"),
    "three numbers": (["{}/good.png", "--boxes", "0,0,9"], "Boxes must be x1,y1,x2,y2 in pixels"),
    "no numbers": (["{}/good.png", "--boxes", "a,b,c,d"], "Boxes must be x1,y1,x2,y2 in pixels"),
    "empty boxes": (["{}/good.png", "--boxes", ""], "Boxes must be x1,y1,x2,y2 in pixels"),
    "missing boxes file": (["{}/good.png", "--boxes", "{}/none.json"], "There is no file {}/none.json"),
    "broken JSON": (["{}/good.png", "--boxes", "{}/broken.json"], "{}/broken.json is not valid JSON"),
    "JSON list": (["{}/good.png", "--boxes", "{}/list.json"], "{}/list.json must map image names to lists of boxes"),
    "NaN in JSON": (["{}/good.png", "--boxes", "{}/nan.json"], "has a coordinate that is not a number"),
    "words in JSON": (["{}/good.png", "--boxes", "{}/words.json"], "Boxes must be numbers"),
    "missing keys": (["{}/good.png", "--boxes", "{}/coco.json"], "{}/coco.json: image 0 lacks the key 'file_name'"),
    "box of no image": (
        ["{}/good.png", "--boxes", "{}/stranger.json"],
        "{}/stranger.json: annotation 0 belongs to image 2, not in 'images'",
    ),
    "unknown model": (["{}/good.png", "--model", "lpn5"], "There are no weights 'lpn5'. Did you mean 'lpn50'?"),
    "missing weights": (["{}/good.png", "--model", "{}/none.onnx"], "There is no file {}/none.onnx"),
    "long weights": (["{}/good.png", "--model", "y" * 300 + ".onnx"], "There is no file yyy"),
    "pickle": (["{}/good.png", "--model", "{}/pickle.pth"], "pickle.pth is a pickle, which may hold code"),
    "pickle as ONNX": (["{}/good.png", "--model", "{}/pickle.onnx"], "pickle.onnx is not a usable ONNX file"),
    "zeros as ONNX": (["{}/good.png", "--model", "{}/zeros.onnx"], "zeros.onnx"),
    "unknown detector": (["{}/good.png", "--detector", "lpn5"], "There are no weights 'lpn5'. Did you mean 'lpn50'?"),
    "missing detector": (["{}/good.png", "--detector", "{}/none.onnx"], "There is no file {}/none.onnx"),
    "detector of single persons": (
        ["{}/good.png", "--detector", "lpn50"],
        "finds one person per crop, not the persons of an image",
    ),
    "pickle as detector": (
        ["{}/good.png", "--detector", "{}/pickle.pth"],
        "pickle.pth is a pickle, which may hold code",
    ),
    "wrong engine": (["{}/good.png", "--engine", "tensorrt"], "--engine cannot be 'tensorrt'"),
    "no threads": (["{}/good.png", "--threads", "0"], "threads must be at least 1, not 0"),
    "unknown format": (["{}/good.png", "--format", "jsn"], "There is no format 'jsn'. Did you mean 'json'?"),
    "no format": (["{}/good.png", "--format", ""], "There is no format ''"),
    "result over source": (["{}/good.png", "--out", "{}"], "The results would overwrite {}/good.png"),
    "out is a file": (["{}/good.png", "--out", "{}/text"], "{}/text/good.json cannot be written"),
    "out for a file": (
        ["{}/good.png", "--format", "csv", "--out", "a/b.csv"],
        "--out is a folder, not a file: --out a/b",
    ),
    "known network, no weights": (["{}/good.png", "--model", "lpn101"], "lpn101 is a known network, but there are no"),
}


def words_of(case: str, folder: Path) -> list[str]:
    """Words of a case; where they are not about boxes and detectors, the whole image is one person."""
    words = [word.replace("{}", str(folder)) for word in BAD_INPUT[case][0]]
    return words if {"--boxes", "--detector"} & set(words) else [*words, "--boxes", "image"]


@pytest.mark.parametrize("case", sorted(BAD_INPUT.keys() - {"header only"}))
def test_bad_input_is_one_line_and_leaves_nothing(
    case: str, bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["predict", *words_of(case, bad)]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("leanpose: ") and printed.err.count("\n") == 1
    assert BAD_INPUT[case][1].replace("{}", str(bad)) in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_pickle_named_safetensors_is_refused(
    bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["predict", str(bad / "good.png"), "--model", str(bad / "pickle.safetensors")]) == 2
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert "pickle.safetensors is not a usable safetensors file" in printed.err
    assert sorted(tmp_path.rglob("*")) == before  # above all no "trace"


@pytest.mark.parametrize("case", ["cut JPEG", "damaged PNG", "header only", "pickle as ONNX", "broken JSON"])
def test_a_whole_process_prints_one_line_too(case: str, bad: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = run("predict", *words_of(case, bad), folder=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert BAD_INPUT[case][1].replace("{}", str(bad)) in result.stderr
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


ODD_BUT_GOOD: dict[str, np.ndarray] = {
    "grey.png": np.full((60, 40), 90, np.uint8),
    "rgba.png": np.full((60, 40, 4), 90, np.uint8),
    "deep.png": np.full((60, 40, 3), 30000, np.uint16),
}


def test_odd_images_are_handled(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, image in ODD_BUT_GOOD.items():
        cv2.imwrite(str(tmp_path / name), image)
    pil = pytest.importorskip("PIL.Image")
    turned = pil.Exif()
    turned[0x0112] = 6  # the camera was turned: 90 degrees clockwise to see it upright
    pil.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=turned)
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path), "--boxes", "image", "--out", str(out)]) == 0
    assert capfd.readouterr().err == ""
    for name in (*ODD_BUT_GOOD, "turned.jpg"):
        result = json.loads((out / name).with_suffix(".json").read_text())
        assert (result["width"], result["height"]) == (40, 60)
        assert len(result["persons"]) == 1


def test_a_box_may_begin_left_of_the_image(bad: Path, tmp_path: Path) -> None:
    for words in (["--boxes", "-5,-3,30,50"], ["--boxes=-5,-3,30,50"]):
        out = tmp_path / "out"
        assert main(["predict", str(bad / "good.png"), *words, "--out", str(out), "--format", "json"]) == 0
        assert json.loads((out / "good.json").read_text())["persons"][0]["box_xyxy"] == [-5, -3, 30, 50]


def test_an_image_of_nobody_is_no_fault(
    tmp_path: Path, networks: dict[str, Any], rectangle_people: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    record = Weights("all", "all", (256, 256), task="bottom_up", convention="classic", codec="associative_embedding")
    networks |= {"all": rectangle_people(record), "crops": rectangle_people(Weights("crops", "crops", (128, 96)))}
    cv2.imwrite(str(tmp_path / "none.png"), np.zeros((60, 40, 3), np.uint8))
    for words in (["--model", "all"], ["--model", "crops", "--detector", "all"]):
        out = tmp_path / words[1]
        assert main(["predict", str(tmp_path / "none.png"), *words, "--out", str(out)]) == 0
        assert capfd.readouterr().err == ""
        assert json.loads((out / "none.json").read_text())["persons"] == []
        np.testing.assert_array_equal(cv2.imread(str(out / "none.png")), 0)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are always Unicode there")
def test_a_file_name_that_is_not_unicode(bad: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(name)).write_bytes((bad / "good.png").read_bytes())
    words = ["--boxes", "image", "--out", "out", "--format", "json,csv,coco"]
    result = run("predict", os.fsdecode(name), *words, folder=tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    assert len((tmp_path / "out" / "poses.csv").read_text().splitlines()) == 2
    assert json.loads(next((tmp_path / "out").glob("caf*.json")).read_text())["width"] == 40


WRONG_WORDS = {
    "unknown command": (["predikt"], "There is no command 'predikt'. Did you mean 'predict'?"),
    "far from every command": (
        ["zzz"],
        "There is no command 'zzz'. Known: angles, batch, benchmark, calibrate, convert, data ",
    ),
    "option before the command": (["--model", "lpn50"], "There is no command '--model'."),
    "no sources": (["predict"], "sources"),
    "option without value": (["predict", "a.png", "--out"], "--out"),
    "unknown option": (["predict", "a.png", "--modle", "x"], "predict has no option --modle. Did you mean '--model'?"),
    "unknown option with =": (["predict", "a.png", "--modle=x"], "has no option --modle. Did you mean '--model'?"),
    "shortened option": (["predict", "a.png", "--form", "csv"], "has no option --form. Did you mean '--format'?"),
    "unknown letter": (["predict", "a.png", "-q"], "predict has no option -q. Known: --as-video, --boxes, "),
    "option like no other": (
        ["predict", "a.png", "--quiet"],
        "predict has no option --quiet. Known: --as-video, --boxes, ",
    ),
    "option of a verb without": (["models", "--modle"], "no option --modle. Known: --format, --measure, --public."),
    "an option twice": (["predict", "a.png", "--model", "a", "--model=b"], "--model is given twice"),
    "an option twice, by letter": (["predict", "a.png", "-o", "a", "--out", "b"], "--out is given twice"),
    "model as an option": (["evaluate", "--model", "a", "--model", "b"], "takes the model without --model: leanpose "),
    "source as an option": (["predict", "--source", "a.png"], "without --source: leanpose predict SOURCE."),
    "two models": (
        ["evaluate", "a", "b", "--data", "d", "--images", "i"],
        "evaluate takes one model, so 'b' is too much; run it once for each",
    ),
    "a needed option": (["evaluate", "a", "--data", "d"], "evaluate lacks --images; see leanpose evaluate --help."),
    "a needed word": (["evaluate", "--data", "d", "--images", "i"], "evaluate lacks model; see"),
    "word for a number": (["predict", "a.png", "--threads", "two"], "--threads cannot be 'two'"),
    "fraction for a whole number": (["predict", "a.png", "--threads", "1.5"], "--threads cannot be '1.5'"),
    "unknown choice": (["predict", "a.png", "--engine", "tensorrt"], "--engine cannot be 'tensorrt'"),
    "word for a score": (["predict", "a.png", "--min-person-score", "low"], "--min-person-score cannot be 'low'"),
    "value for a switch": (["predict", "a.png", "--flip-test=yes"], "--flip-test"),
}


@pytest.mark.parametrize("case", WRONG_WORDS)
def test_wrong_words(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    words, message = WRONG_WORDS[case]
    assert main(words) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("leanpose: ") and printed.err.count("\n") == 1
    assert message in printed.err


def test_two_minus_signs_end_the_options(bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-a.png", "--out", "b.png"):
        Path(name).write_bytes((bad / "good.png").read_bytes())
    words = ["b.png", "--boxes", "image", "--format", "json", "--out", "results", "--", "-a.png", "--out"]
    assert main(["predict", *words]) == 0
    assert sorted(path.name for path in Path("results").iterdir()) == ["--out.json", "-a.json", "b.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Unix")
@pytest.mark.parametrize("both", [False, True])
def test_a_reader_that_leaves_loses_nothing(both: bool, bad: Path, tmp_path: Path) -> None:
    """As in `leanpose predict ... | head -1`: the run ends in silence, with all results."""
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes((bad / "good.png").read_bytes())
    (tmp_path / "bad.png").write_bytes(b"no image")
    words = ["predict", ".", "--boxes", "image", "--format", "json,csv", "--out", "out", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    reading, writing = os.pipe()
    os.close(reading)
    errors = writing if both else subprocess.PIPE
    command = [sys.executable, "-m", "leanpose", *words]
    result = subprocess.run(command, stdout=writing, stderr=errors, text=True, cwd=tmp_path, env=environment)
    os.close(writing)
    assert result.returncode == 2  # one image is bad
    if not both:
        assert result.stderr.count("\n") == 2 and "1 of 13 images" in result.stderr
    assert len((tmp_path / "out" / "poses.csv").read_text().splitlines()) == 13


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix")
def test_output_that_is_closed_from_the_beginning(bad: Path, tmp_path: Path) -> None:
    words = f"predict {bad}/good.png --boxes image --format json --out {tmp_path}/out"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run(f"{sys.executable} -m leanpose {words} >&- 2>&-", shell=True, env=environment).returncode == 0
    assert (tmp_path / "out" / "good.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux")
def test_a_full_disk_behind_the_output(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "leanpose", "--help"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert result.returncode == 2
    assert result.stderr == "leanpose: The output cannot be written (No space left on device); free space.\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_overview_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert cli.SUMMARIES.keys() == COMMANDS.keys()
    for verb, summary in cli.SUMMARIES.items():
        assert f"  {verb} " in printed and summary in printed


def test_verbs_of_two_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("data check", "data split"):
        monkeypatch.setitem(COMMANDS, verb, COMMANDS["models"])
        monkeypatch.setitem(cli.SUMMARIES, verb, f"summary of {verb}")
    for words in (["data"], ["data", "--help"], ["help", "data"]):
        assert main(words) == 0
        printed = capsys.readouterr().out
        assert "summary of data check" in printed and "predict" not in printed
    assert main(["data", "split", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: leanpose data split ")
    assert main(["data", "chekc"]) == 2
    assert capsys.readouterr().err == "leanpose: There is no command 'data chekc'. Did you mean 'data check'?\n"


def test_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), flags=re.MULTILINE)
    for word in ("--version", "-V"):
        assert main([word]) == 0
        assert capsys.readouterr().out == f"leanpose {version}\n"


def test_help_of_a_verb_in_three_ways(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for words in (["help", "models"], ["models", "--help"], ["models", "-h"]):
        assert main(words) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    assert printed[0].startswith("usage: leanpose models") and "(required" not in printed[0]  # patterns may be none


def test_a_letter_for_out() -> None:
    def writes(name: str, out: str = "poses") -> None:
        """Write a file.

        Args:
            name: a word.
            out: a folder.
        """

    for words in (["a", "-o", "there"], ["a", "-o=there"], ["-o", "there", "a"]):
        assert parse("writes", writes, words) == (["a"], {"out": "there"})


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_of_every_command_lists_its_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    if verb in ("train", "export", "convert"):
        pytest.importorskip("lightning")
    assert main([*verb.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: leanpose {verb}")
    module, _, name = COMMANDS[verb].partition(":")
    function = getattr(importlib.import_module(module), name)
    for parameter in function.__annotations__.keys() - {"return"}:
        assert parameter in printed or "--" + parameter.replace("_", "-") in printed


def sample(
    first: str,
    rest: list[int],
    *,
    must: float,
    size: tuple[int, int] = (256, 192),
    name: str | None = None,
    fast_one: bool = False,
) -> None:
    """Show all kinds of parameters.

    Args:
        first: a word.
        must: a number that must be given.
    """


PARSED: dict[str, tuple[list[str], list[Any], dict[str, Any]]] = {
    "least": (["a", "1", "--must", "2"], ["a", [1]], {"must": 2.0}),
    "several": (["a", "1", "2", "3", "--must=2.5"], ["a", [1, 2, 3]], {"must": 2.5}),
    "size": (["a", "1", "--must", "2", "--size", "128x96"], ["a", [1]], {"must": 2.0, "size": (128, 96)}),
    "switch": (["a", "1", "--must", "2", "--fast-one"], ["a", [1]], {"must": 2.0, "fast_one": True}),
    "digits stay a word": (["7", "1", "--must", "2", "--name", "8"], ["7", [1]], {"must": 2.0, "name": "8"}),
    "words in two places": (["a", "1", "--must", "2", "3"], ["a", [1, 3]], {"must": 2.0}),
    "negative number": (["a", "1", "--must", "-2"], ["a", [1]], {"must": -2.0}),
}


@pytest.mark.parametrize("case", PARSED)
def test_parse(case: str) -> None:
    words, positional, named = PARSED[case]
    defaults: dict[str, Any] = {"size": (256, 192), "name": None, "fast_one": False}
    assert parse("sample", sample, words) == (positional, defaults | named)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "1"], "must"),
        (["a", "--must", "2"], "rest"),
        (["a", "x", "--must", "2"], "rest cannot be 'x'"),
        (["a", "1", "--must", "2", "--size", "256"], "--size must be height x width in pixels"),
        (["a", "1", "--must", "2", "--size", "0x192"], "--size must be height x width in pixels"),
        (["a", "1", "--must", "2", "--fastone"], "Did you mean '--fast-one'?"),
    ],
)
def test_parse_refuses(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse("sample", sample, words)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_words_for_a_starred_parameter() -> None:
    def starred(recipe: str, *changes: str) -> None:
        """Take changes.

        Args:
            recipe: a file.
            changes: key=value.
        """

    assert parse("starred", starred, ["r.yaml"]) == (["r.yaml"], {})
    assert parse("starred", starred, ["r.yaml", "a=1", "b=2"]) == (["r.yaml", "a=1", "b=2"], {})
    with pytest.raises(InputError, match="leanpose starred lacks recipe; see"):
        parse("starred", starred, [])
    with pytest.raises(InputError, match=r"starred has no option --a\. See leanpose starred --help\."):
        parse("starred", starred, ["r.yaml", "--a"])


def test_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def command(outcome: str) -> str:
        """Do what is asked.

        Args:
            outcome: what shall happen.
        """
        if outcome == "refused":
            raise LeanposeError("Not like this.")
        if outcome == "stopped":
            raise KeyboardInterrupt
        return "The result."

    monkeypatch.setitem(COMMANDS, "sample", f"{__name__}:command")
    module = type(sys)(__name__)
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, __name__, module)
    assert main(["sample", "fine"]) == 0
    assert capsys.readouterr().out == "The result.\n"
    assert main(["sample", "refused"]) == 2
    assert capsys.readouterr().err == "leanpose: Not like this.\n"
    assert main(["sample", "stopped"]) == 130
    assert capsys.readouterr().err == "leanpose: stopped\n"


LOADED = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


@pytest.mark.parametrize("boxes", [["--boxes", "image"], []])
def test_import_and_a_whole_predict_are_without_torch(boxes: list[str], tmp_path: Path) -> None:
    result = run(code=f"import leanpose; {LOADED}")
    assert result.returncode == 0 and "torch" not in result.stdout.split() and "leanpose" in result.stdout.split()
    words = ["predict", str(ASTRONAUT), *boxes, "--out", str(tmp_path), "--format", "json,csv,coco,image"]
    result = run(code=f"from leanpose.commands.cli import main; assert main({words!r}) == 0; {LOADED}")
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.splitlines()[-1].split()
    assert {"leanpose", "onnxruntime", "cv2"} <= set(loaded)
    assert not {"torch", "lightning", "onnx", "safetensors"} & set(loaded)
    assert {path.name for path in tmp_path.iterdir()} == {"astronaut.json", "astronaut.png", "coco.json", "poses.csv"}


@pytest.mark.parametrize(("given", "seen"), [(None, "1"), ("", "1"), ("0", "0")])
def test_telemetry_of_onnx_runtime_is_off(given: str | None, seen: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)}
    environment |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    code = (
        "import os, sys, leanpose; assert 'onnxruntime' not in sys.modules; leanpose.load_engine('lpn50', threads=1);"
    )
    command = [sys.executable, "-c", f"{code} print(os.environ['ORT_DISABLE_TELEMETRY'])"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.stdout == f"{seen}\n", result.stderr
    assert seen == "0" or not list(tmp_path.rglob("*"))


# `leanpose train` and its like in the base install
WITHOUT = """
import sys
sys.modules["torch"] = sys.modules["lightning"] = sys.modules["safetensors"] = None
from leanpose.commands.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["train", "recipe.yaml"],
        ["export", "a.safetensors", "--out", "a.onnx"],
        ["convert", "a.pth", "--model", "lpn50", "--out", "a.safetensors"],
        ["predict", str(ASTRONAUT), "--model", "a.safetensors"],
    ],
    ids=lambda words: words[0],
)
def test_without_the_extra_the_line_to_type_is_shown(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    result = run(*words, code=WITHOUT, folder=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert install_line("train") in result.stderr
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr


def test_reading_a_file_does_not_need_pillow() -> None:
    result = run(code=f"import leanpose; leanpose.read_image({str(ASTRONAUT)!r}); {LOADED}")
    assert result.returncode == 0 and "PIL" not in result.stdout.split() and "cv2" in result.stdout.split()


def annotation_file(**changes: object) -> str:
    """A COCO-style file of one person in good.png; some values of the person replaced, or taken out where `...`."""
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 30, 40], "area": 900, "iscrowd": 0}
    person |= {"keypoints": [5, 5, 2] * 17, "num_keypoints": 17} | changes
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "good.png", "width": 40, "height": 60}],
            "annotations": [{key: value for key, value in person.items() if value is not ...}],
            "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}],
        }
    )


BAD_ANNOTATIONS = {
    "wrong JSON": ('{"images": [', "is not valid JSON"),
    "empty file": ("", "is not valid JSON"),
    "a list": ("[]", "is no COCO-style file"),
    "no categories": ('{"images": [], "annotations": []}', "exactly one category"),
    "no keypoint names": ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "exactly one category"),
    "nobody": (annotation_file().replace("annotations", "notes", 1), "is no COCO-style file"),
    "no image_id": (annotation_file(image_id=...), "annotation 0 lacks the key 'image_id'"),
    "no keypoints": (annotation_file(keypoints=...), "counts nobody"),
    "of no image": (annotation_file(image_id=2), "annotation 0 belongs to image 2, not in 'images'"),
    "keypoint count": (annotation_file(keypoints=[1, 1, 2] * 14), "annotation 0 has 42 keypoint numbers"),
    "NaN box": (annotation_file(bbox=[0, 0, float("nan"), 5]), "'bbox' must be 4 numbers"),
    "words": (annotation_file(keypoints=["a"] * 51), "'keypoints' must be 51 numbers"),
    "none labelled": (annotation_file(keypoints=[0] * 51), "counts nobody, so that it gives no figure"),
}


@pytest.mark.parametrize("case", BAD_ANNOTATIONS)
def test_bad_annotations_are_one_line_and_leave_nothing(
    case: str, bad: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text, message = BAD_ANNOTATIONS[case]
    file = bad / "annotations.json"
    file.write_text(text)
    before = sorted(tmp_path.rglob("*"))
    words = ["evaluate", "lpn50", "--data", str(file), "--images", str(bad), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("leanpose: ") and printed.err.count("\n") == 1
    assert message in printed.err and "annotations.json" in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_same_annotations_without_fault_are_evaluated(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faster_coco_eval")
    file = bad / "annotations.json"
    file.write_text(annotation_file())
    assert main(["evaluate", "lpn50", "--data", str(file), "--images", str(bad), "--threads", "1"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["AP", "AP50"]


@pytest.mark.parametrize(
    ("scales", "expected"), [(["--scales", "[0.5,1,2]"], [0.5, 1, 2]), (["--scales=[1.5]"], [1.5]), ([], None)]
)
def test_scales_are_a_list(scales: list[str], expected: list[float] | None) -> None:
    evaluate = importlib.import_module("leanpose.evaluation.evaluate").evaluate
    words = ["all", "--data", "a.json", "--images", "images"]
    assert parse("evaluate", evaluate, words + scales)[1]["scales"] == expected  # type: ignore[index]


@pytest.mark.parametrize("scales", ["0.5,1", "big", "[big]", "1"])
def test_scales_that_are_no_list(scales: str) -> None:
    evaluate = importlib.import_module("leanpose.evaluation.evaluate").evaluate
    with pytest.raises(InputError, match="--scales cannot be") as caught:
        parse("evaluate", evaluate, ["all", "--data", "a.json", "--images", "images", "--scales", scales])
    assert "\n" not in str(caught.value)
