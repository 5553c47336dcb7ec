"""The benchmarks' harness: a few rows from start to end, and what it makes of failures."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports one of its modules."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(BENCH / "run.py"), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
    )


@pytest.mark.skipif(shutil.which("cc") is None, reason="builds the floors")
def test_a_quick_run_of_a_few_rows(tmp_path: Path) -> None:
    floors = {"tcp_echo_64": True, "tls_handshake": Path("/usr/include/openssl/ssl.h").exists()}
    rows = ["call_soon", "new_loop", "idle_tcp", *floors]
    options = ["--suite", "asyncio", "--rows", ",".join(rows), "--loops", "pyev,asyncio"]
    done = run(*options, "--quick", "--no-plot", "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "asyncio.json").read_text())
    assert set(found["loops"]) == {"pyev", "asyncio"}
    assert set(found["rows"]) == set(rows)
    for name, row in found["rows"].items():
        assert row["failed"] == {}
        floor = {"C"} if floors.get(name) else set()
        assert set(row["rates"]) == {"pyev", "asyncio"} | floor
        for rates in row["rates"].values():
            assert len(rates["wall"]) == len(rates["cpu"]) == 1
            assert rates["wall"][0] > 0 < rates["cpu"][0]
    assert "TCP echo 64 B" in done.stdout
    assert "| TCP echo 64 B" in (tmp_path / "asyncio.md").read_text()


@pytest.mark.skipif(shutil.which("cc") is None, reason="builds the clients")
def test_a_quick_run_of_the_suite_scale(tmp_path: Path) -> None:
    rows = ["all_10", "add_10", "add_1000"]
    options = ["--rows", ",".join(rows), "--loops", "pyev,asyncio", "--quick", "--no-plot"]
    done = run(*options, "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["scale.json", "scale.md"]
    found = json.loads((tmp_path / "scale.json").read_text())["rows"]
    assert set(found) == set(rows)
    for name, row in found.items():
        assert row["failed"] == {}
        assert set(row["rates"]) == {"pyev", "asyncio"} | ({"C"} if name == "all_10" else set())
    assert "| 1,000 timers pending: add one, ÷ 10 |" in (tmp_path / "scale.md").read_text()


PUBLISHED = BENCH / "published"


def test_what_is_published_is_of_the_figures_beside_it(tmp_path: Path) -> None:
    done = run("--redraw", str(PUBLISHED), "--no-plot", "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    names = [path.name for path in sorted(PUBLISHED.iterdir())]
    assert names == [f"{n}.{e}" for n in ("asyncio", "libev", "scale") for e in ("json", "md")]
    for name in names:
        assert (tmp_path / name).read_text() == (PUBLISHED / name).read_text(), name


def test_the_readme_says_what_is_published() -> None:
    table = (PUBLISHED / "asyncio.md").read_text()
    first, *lines = table.splitlines()
    (means,) = [line.split("|") for line in lines if line.startswith("| pyev |")]
    _, _, _, _, uvloop, best, rows, _, ahead, _ = [cell.split(" (")[0].strip() for cell in means]
    of_uvloop, of_best = [cell.split(" (")[1].rstrip(") ") for cell in means[4:6]]
    (python,) = re.findall(r"CPython [\d.]+", first)
    words = " ".join((BENCH.parent / "README.md").read_text().split())
    for said in (
        f"on {python} pyev is ahead of six other event loops on {ahead} of {rows} rows",
        f"mean is {best} times that of the best other loop of each row ({of_best} rows)",
        f"and {uvloop} times uvloop's (the {of_uvloop} rows that uvloop can run)",
    ):
        assert said in words


def test_every_row_is_explained(bench: Any) -> None:
    page = (BENCH.parent / "docs" / "benchmarks.md").read_text()
    rows = bench("rows")
    asyncio_rows = [row for row in rows.load().values() if row.family not in rows.SCALE]
    assert [row.what for row in asyncio_rows if page.count(f"\n| {row.what} | ") != 1] == []


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="takes matplotlib")
def test_pictures_are_for_light_and_dark(tmp_path: Path) -> None:
    done = run("--redraw", str(PUBLISHED), "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    pictures = sorted(tmp_path.glob("*.svg"))
    assert {path.stem for path in pictures} >= {"asyncio", "asyncio-rows", "libev", "scale"}
    for picture in pictures:
        drawing, text = picture.read_text().split("</style>", 1)
        assert drawing.count("@media (prefers-color-scheme: dark)") == 1
        # Ink and paper are there, and are replaced.
        for colour in ("#222222", "#ffffff"):
            assert f'[style*="fill: {colour}"]' in drawing
            assert f"fill: {colour}" in text


@pytest.mark.parametrize("contender", ["pyev", "loop-pyev", "loop-asyncio", "epoll"])
def test_tokens_go_round(contender: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / "pairs.py"), contender, "10", "3", "100", "2"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 2


@pytest.mark.parametrize("option", ["--rows", "--loops", "--suite"])
def test_what_is_not_there_is_named(option: str) -> None:
    done = run(option, "nonsense")
    assert done.returncode == 2
    assert "'nonsense'; there are " in done.stderr


@pytest.mark.parametrize("part", [["--quick"], ["--rows", "call_soon"]])
def test_a_part_is_not_published(part: list[str]) -> None:
    done = run("--publish", *part)
    assert done.returncode == 2
    assert "--publish is for whole tables" in done.stderr


def test_help_lists_the_rows(bench: Any) -> None:
    said = run("--help").stdout
    for name, row in bench("rows").load().items():
        assert name in said
        assert row.family in said


def test_a_program_that_hangs_is_killed_with_its_children(bench: Any) -> None:
    launch = bench("launch")
    program = "import subprocess; subprocess.run(['sleep', '1000'])"
    with pytest.raises(launch.Failed, match=r"^not done in 0\.5 s$"):
        launch.Core(None, {}).output([sys.executable, "-c", program], limit=0.5)


def test_a_program_that_fails_says_why(bench: Any) -> None:
    launch = bench("launch")
    with pytest.raises(launch.Failed, match=r"^ValueError: no good$"):
        launch.Core(None, {}).output([sys.executable, "-c", "raise ValueError('no good')"])


def test_ratios_means_and_failures(bench: Any) -> None:
    suite = bench("suite")
    results = suite.Results(versions={"pyev": "", "asyncio": "", "uvloop": "1", "rloop": "2"})
    for row, rates in {
        "call_soon": {"pyev": 8.0, "asyncio": 1.0, "uvloop": 4.0, "rloop": 2.0},
        "sleep_0": {"pyev": 2.0, "asyncio": 1.0, "uvloop": 2.0, "rloop": 4.0},
    }.items():
        for name, rate in rates.items():
            for found in (rate / 2, rate):
                results.add(row, name, {"wall": [found], "cpu": [found]})
    assert results.best_peer("call_soon") == "uvloop"
    assert results.ratio("sleep_0", "pyev", results.best_peer("sleep_0")) == 0.5
    assert results.mean("pyev", results.best_peer) == pytest.approx((1.0, 2))
    assert results.noise() == pytest.approx(1 / 3)

    # A loop that failed in a later round has no figure any more.
    results.failed["sleep_0"] = {"rloop": "not done in 30 s"}
    assert results.best_peer("sleep_0") == "uvloop"
    report = bench("suite_report")
    head, (first, second) = report.rows_table(results)
    assert second[head.index("rloop")] == "failed"
    assert first[head.index("uvloop")] == "**4.0**"
    assert any("sleep_0 on rloop" in line for line in report.explain(results))
