"""What works on Linux only is found: options of GNU programs in Makefile, rules and scripts, forks in the package."""

import re
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

# Programs and options that macOS lacks, by what to write instead.
GNU = {
    r"\bsed\s+(?:-\S+\s+)*(?:-\w*i|--in-place)": "python, or a temporary file",
    r"\bdate\s+(?:-\w*d|--|\+\S*%N)": "python",
    r"\bcp\s+(?:-\S+\s+)*(?:-\w*[atu]\b|--)": "cp -R, cp -p",
    r"\bln\s+(?:-\S+\s+)*(?:-\w*[rT]|--)": "ln -s",
    r"\bstat\s+(?:-c|--)": "python, wc -c",
    r"\b(?:grep|egrep)\s+(?:-\S+\s+)*(?:-\w*P|--)": "grep -E, python",
    r"\bxargs\s+(?:-\S+\s+)*(?:-\w*[rd]\b|--)": "find -exec",
    r"\bsort\s+(?:-\S+\s+)*(?:-\w*V|--)": "python",
    r"\bfind\s.*\s-(?:printf|regextype)": "python",
    r"\bhead\s+(?:-n\s*|-c\s*|)-\d+\s*-|\bhead\s+-[nc]\s*-": "python",
    r"\breadlink\s+-\w*[fem]": "python",
    r"\bmktemp\s+--": "mktemp -d",
    r"\bdu\s+(?:-\S+\s+)*(?:-b|--)": "python",
    r"(?:^|[;&|({`\s@])(?:nproc|realpath|sha256sum|md5sum|tac|shuf|timeout|setsid|taskset)\s+[-\w$\"'/]": "python",
    r"\bdeclare\s+-A|\bmapfile\b|\$\{\w+(?:\^\^|,,)": "what bash 3.2 of macOS knows",
}
# Of Linux alone, or (fork) unsafe with the threads of macOS's libraries.
LINUX = (
    r"\bos\.(?:fork|forkpty|sched_\w+|memfd_create|posix_fadvise|posix_fallocate|pipe2|splice|eventfd|getrandom)\b",
    r"""get_context\(["']fork|set_start_method\(["']fork""",
    r"""["'](?:/proc/|/dev/shm|/sys/)""",
    r"\bPR_SET|\binotify",
)
# `make slurm-test` installs SLURM with Debian's packages.
NOT_PORTABLE = ("slurm-test",)


def scripts() -> Iterator[tuple[str, str]]:
    """Yield the name and the commands of everything that a user's shell runs."""
    makefile = (ROOT / "Makefile").read_text()
    for target in NOT_PORTABLE:
        makefile = re.sub(rf"^{target}:.*\n(?:\t.*\n)+", "", makefile, flags=re.M)
    yield "Makefile", makefile
    for file in (
        ROOT / ".ci/run",
        ROOT / "Snakefile",
        *(ROOT / "workflow").rglob("*.smk"),
        ROOT / ".pre-commit-config.yaml",
    ):
        yield file.name, file.read_text()
    for file in (ROOT / "profiles").rglob("*"):
        if file.is_file():
            yield str(file.relative_to(ROOT)), file.read_text()


def gnu(text: str) -> list[str]:
    """Return what a text runs that macOS does not know, comments aside, and what to write instead."""
    # Commands that install Debian's packages run nowhere else.
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#") and "apt-get" not in line]
    searched = [(re.search(pattern, line), instead) for line in lines for pattern, instead in GNU.items()]
    return [f"{found[0]}: {instead}" for found, instead in searched if found]


@pytest.mark.parametrize(("name", "text"), [pytest.param(*each, id=each[0]) for each in scripts()])
def test_commands_run_on_macos_too(name, text):
    assert gnu(text) == []


@pytest.mark.parametrize(
    "command",
    [
        "sed -i s/a/b/ file",
        "sed -E -i s/a/b/ file",
        "date --iso-8601",
        "date +%s%N",
        "cp -a a b",
        "cp --reflink=auto a b",
        "ln -sr a b",
        "x=$(nproc --all)",
        "stat -c %s file",
        "\ttimeout 5 command",
        "a && timeout --signal=INT 45m b",
        "grep -oP a file",
        "readlink -f file",
        "sort -V file",
        "head -n -1 file",
        "find . -printf %f",
        "sha256sum file",
    ],
)
def test_commands_of_gnu_are_found(command):
    assert gnu(command)


@pytest.mark.parametrize(
    "command",
    ["sed -n 1p file", "cp -R a b", "ln -s a b", "date", "grep -E a file", "touch $@", "the timeout: 5 s", "head -n 1"],
)
def test_portable_commands_are_left_alone(command):
    assert gnu(command) == []


def test_the_package_uses_nothing_of_linux_alone():
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text()
        assert [found[0] for pattern in LINUX for found in re.finditer(pattern, text)] == [], file
        # Processes are started by spawn, as macOS does.
        assert "multiprocessing" not in text or 'get_context("spawn")' in text, file


def test_patterns_of_linux_are_found():
    for text in ("os.fork()", "os.sched_getaffinity(0)", 'get_context("fork")', "open('/proc/meminfo')"):
        assert any(re.search(pattern, text) for pattern in LINUX), text
