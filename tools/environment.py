"""Makes a virtual environment with what a make word needs, and pyev itself built into it.

    environment.py DIR GROUP... [--no-pyev] [--sanitize] [--profile] [--bench] [--ecosystem]
                                [--testsuite] [--valgrind]

A GROUP is a dependency group of pyproject.toml. `--profile` builds pyev as wheels have it: laid out
by what it did in a training, where the compiler is GCC. `--bench` adds what pyev is measured
beside, each where it exists for this interpreter. What only a system package can give (a compiler,
headers) is installed by apt where root or sudo is at hand; elsewhere one line says what to install.
Everything done is remembered in DIR, so a second time costs next to nothing. The standard library
of Python 3.11 is all this file may use.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
VERBOSE = bool(os.environ.get("V"))
MINIMUM = (3, 11)
# What an installed package is made of.
PACKAGE = [
    "CMakeLists.txt",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "LICENSE.libev",
    "python",
    "src",
]
# Set once apt has been asked: what it did not bring is for the build to complain about.
INSTALLED = "PYEV_PACKAGES_INSTALLED"


def say(text: str) -> None:
    print(f"pyev: {text}", flush=True)


def stop(text: str) -> NoReturn:
    sys.exit(f"pyev: {text}")


def attempt(command: list[str], *, env: dict[str, str] | None = None) -> str | None:
    """Runs `command`; returns what it said if it failed (with V=1, it has said it by then)."""
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        stdin=None if command[0] == "sudo" else subprocess.DEVNULL,
        stdout=None if VERBOSE else subprocess.PIPE,
        stderr=None if VERBOSE else subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return (result.stdout or "") if result.returncode else None


def run(command: list[str], *, env: dict[str, str] | None = None) -> None:
    said = attempt(command, env=env)
    if said is not None:
        sys.stderr.write(said)
        stop(f"failed: {' '.join(command)}")


def succeeds(*command: str) -> bool:
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


# --- what only the system can give ---------------------------------------------------------------


def has_header(name: str) -> bool:
    """Whether `name` is where CMake will look for it; CMake has the last word."""
    prefixes = ["/usr", "/usr/local", "/opt/homebrew", "/opt/local"]
    prefixes += os.environ.get("CMAKE_PREFIX_PATH", "").split(":")
    folders = [f"{prefix}/include" for prefix in prefixes]
    return any(Path(folder, sub, name).is_file() for folder in folders for sub in ("", "libev"))


def has_perl_ev() -> bool:
    perl = shutil.which("perl")
    return perl is not None and succeeds(perl, "-MEV", "-e1")


def has_testsuite() -> bool:
    try:
        return importlib.util.find_spec("test.test_asyncio") is not None
    except ImportError:
        return False


def missing_packages(*, build: bool, testsuite: bool, valgrind: bool) -> list[str]:
    """The Debian packages that would give what this machine lacks."""
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    needs = [(f"{python}-venv", importlib.util.find_spec("ensurepip") is not None)]
    if build:
        include = Path(sysconfig.get_path("include"))
        needs += [
            ("g++", shutil.which(os.environ.get("CXX", "c++")) is not None),
            (f"{python}-dev", (include / "Python.h").is_file()),
            ("libev-dev", has_header("ev.h")),
        ]
    if testsuite:
        needs += [
            (f"lib{python}-testsuite", has_testsuite()),
            ("netbase", Path("/etc/services").is_file()),  # a test connects to "http"
        ]
    if valgrind:
        found = shutil.which("valgrind") is not None and has_header("valgrind/callgrind.h")
        needs.append(("valgrind", found))
    return [package for package, found in needs if not found]


def missing_wishes(*, bench: bool, ecosystem: bool) -> list[str]:
    """Debian packages without which some benchmarks, or tests of others, are left out."""
    wishes = []
    if bench:
        wishes += [
            ("libev-perl", has_perl_ev()),
            ("libssl-dev", has_header("openssl/ssl.h")),
            ("wrk", shutil.which("wrk") is not None),
        ]
    if ecosystem:
        wishes.append(("postgresql", any(Path("/usr/lib/postgresql").glob("*/bin"))))
    return [package for package, found in wishes if not found]


def as_root() -> list[str] | None:
    """The words that make a command run as root, or None."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        if succeeds("sudo", "-n", "true"):
            return ["sudo", "-n"]
        if sys.stdin.isatty():
            return ["sudo"]
    return None


def install_packages(packages: list[str], wishes: list[str]) -> None:
    root = as_root()
    if root is None or not shutil.which("apt-get"):
        why = "there is no apt-get here" if root is not None else "that takes root or sudo"
        if not packages:
            say(f"done without: {', '.join(wishes)} (Debian's names); {why}")
            return
        stop(f"missing: {', '.join(packages)} (Debian's names); {why}, so please install them")
    say(f"apt-get install {' '.join(packages + wishes)}")
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    apt += ["-o", "DPkg::Lock::Timeout=300"]
    attempt([*apt, "update"])  # a source that fails need not be the one that has them
    install = [*apt, "install", "--no-install-recommends", *packages, *wishes]
    if packages:
        run(install)
    elif attempt(install) is not None:
        say(f"done without: {', '.join(wishes)}; failed: {' '.join(install)}")


# --- the environment -----------------------------------------------------------------------------


class Environment:
    """A virtual environment that remembers what has been put into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.python = path / "bin" / "python"
        self.memory = path / "pyev.json"
        self.identity = f"{sys.version} {sys.base_prefix}"
        try:
            self.state: dict[str, str] = json.loads(self.memory.read_text())
        except (OSError, ValueError):
            self.state = {}

    def fresh(self, key: str, value: str) -> bool:
        return self.state.get(key) == value

    def remember(self, key: str, value: str) -> None:
        self.state[key] = value
        self.memory.write_text(json.dumps(self.state, indent=1))

    def pip(self, *arguments: str, attempting: bool = False) -> bool:
        environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        command = [str(self.python), "-m", "pip", "install", *arguments]
        if attempting:
            return attempt(command, env=environment) is None
        run(command, env=environment)
        return True

    def make(self) -> None:
        # base_prefix is the same for an interpreter and for its virtual environments.
        if self.fresh("python", self.identity) and self.python.exists():
            return
        version = ".".join(map(str, sys.version_info[:3]))
        say(f"making {self.path.name} with Python {version}")
        shutil.rmtree(self.path, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(self.path)])
        self.state = {}
        self.remember("python", self.identity)

    def install(self, group: str, requirements: list[str]) -> None:
        wanted = " ".join(requirements)
        if self.fresh(group, wanted):
            return
        say(f"installing for {group}: {wanted}")
        self.pip(*requirements)
        self.remember(group, wanted)

    def install_each(self, group: str, requirements: list[str]) -> None:
        """Ready-made ones only; without those that there are none of for this interpreter."""
        wanted = " ".join(requirements)
        if self.fresh(group, wanted):
            return
        say(f"installing for {group}: {wanted}")
        for one in requirements:
            if not self.pip("--only-binary=:all:", one, attempting=True):
                say(f"left out: there is no {one} for this interpreter")
        self.remember(group, wanted)

    def profile(self) -> dict[str, str]:
        """CMake's options to build pyev by counts of what it did in a training."""
        compiler = gcc()
        if not compiler:
            say("built without a profile: that takes GCC")
            return {}
        folder = ROOT / build_folder("profile")
        counts, build = folder / "counts", folder / "build"
        # Noted beside them, for several environments have these counts; and when all are there.
        note = counts / "made-by"
        made_by = digest({"python": self.identity, "gcc": compiler}, "CMakeLists.txt", "src")
        if not note.exists() or note.read_text() != made_by:
            say("counting what pyev does in a training, to build it by that")
            shutil.rmtree(folder, ignore_errors=True)
            path = os.pathsep.join([str(self.python.parent), os.environ["PATH"]])
            environment = os.environ | {"PYTHON": str(self.python), "PATH": path}
            options = ["-DPYEV_PROFILE=generate", f"-DPYEV_PROFILE_DIR={counts}"]
            run(["tools/dev-build", str(build), *options], env=environment)
            environment["PYTHONPATH"] = str(build)
            run([str(self.python), "bench/training.py"], env=environment)
            note.write_text(made_by)
        return {"PYEV_PROFILE": "use", "PYEV_PROFILE_DIR": str(counts)}

    def settings(self, *, sanitize: bool = False, profile: bool = False) -> dict[str, str]:
        """How pyev is built for this environment, as pip is told."""
        options = self.profile() if profile else {}
        options |= {"PYEV_WERROR": "ON", "PYEV_SANITIZE": "ON" if sanitize else "OFF"}
        settings = {f"cmake.define.{name}": value for name, value in options.items()}
        return settings | {"build-dir": build_folder(self.path.name.lstrip("."))}

    def install_pyev(self, settings: dict[str, str]) -> None:
        settings["install.strip"] = "false"  # reports and profiles name functions
        wanted = digest(settings, *PACKAGE)
        if self.fresh("pyev", wanted):
            return
        say(f"building pyev into {self.path.name}")
        began = time.monotonic()
        self.pip(
            "--no-build-isolation",
            "--no-deps",
            "--force-reinstall",
            *(f"--config-settings={key}={value}" for key, value in settings.items()),
            ".",
        )
        self.remember("pyev", wanted)
        say(f"built in {time.monotonic() - began:.0f} s")


def gcc() -> str | None:
    """The version of c++, if that is GCC; Clang says that it is, too."""
    command = [*shlex.split(os.environ.get("CXX", "c++")), "-dM", "-E", "-x", "c++", os.devnull]
    try:
        said = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        return None
    found = re.search(r'__VERSION__ "(.+)"', said)
    return found[1] if found and "__GNUC__" in said and "__clang__" not in said else None


def build_folder(name: str) -> str:
    """Where this interpreter's build for `name` is kept, so that the next one is quick."""
    return f"build/{name}-{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"


def digest(settings: dict[str, str], *names: str) -> str:
    """Changes whenever `settings` or the named files and folders do."""
    seen = hashlib.sha256(repr(settings).encode())
    for path in sorted(path for name in names for path in (ROOT / name, *(ROOT / name).rglob("*"))):
        if path.is_file() and path.suffix != ".pyc":
            seen.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()


def requirements(groups: dict[str, list[Any]], name: str) -> list[str]:
    """A dependency group as pip's arguments (pip itself reads groups from 25.1 on only)."""
    found: list[str] = []
    for entry in groups[name]:
        found += [entry] if isinstance(entry, str) else requirements(groups, entry["include-group"])
    return found


def main() -> None:
    if sys.version_info < MINIMUM:
        stop(f"needs Python 3.11 or later, {sys.executable} is {sys.version.split()[0]}")
    import tomllib  # not before that check

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("groups", nargs="*", metavar="group")
    parser.add_argument("--no-pyev", action="store_true", help="without building pyev")
    parser.add_argument("--sanitize", action="store_true", help="with the sanitizers")
    parser.add_argument("--profile", action="store_true", help="laid out by a training")
    parser.add_argument("--bench", action="store_true", help="with what pyev is measured beside")
    parser.add_argument("--ecosystem", action="store_true", help="and a server for others' tests")
    parser.add_argument("--testsuite", action="store_true", help="and CPython's own tests")
    parser.add_argument("--valgrind", action="store_true", help="and valgrind")
    arguments = parser.parse_args()

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    packages = missing_packages(
        build=not arguments.no_pyev, testsuite=arguments.testsuite, valgrind=arguments.valgrind
    )
    wishes = missing_wishes(bench=arguments.bench, ecosystem=arguments.ecosystem)
    if (packages or wishes) and INSTALLED not in os.environ:
        install_packages(packages, wishes)
        # Anew: the interpreter may have been upgraded with its headers.
        os.environ[INSTALLED] = "1"
        os.execv(sys.executable, sys.orig_argv)
    environment = Environment(ROOT / arguments.dir)
    environment.make()
    for group in ([] if arguments.no_pyev else ["build"]) + arguments.groups:
        environment.install(group, requirements(groups, group))
    if arguments.bench:
        environment.install_each("peers", requirements(groups, "peers"))
    if not arguments.no_pyev:
        settings = environment.settings(sanitize=arguments.sanitize, profile=arguments.profile)
        environment.install_pyev(settings)


if __name__ == "__main__":
    main()
