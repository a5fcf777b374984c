"""The distributions agree with each other, the pins with the distributions, and the tree with its plan."""

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from producer_pool.discovery.faults import PUBLISHED
from support.tree import CORE, ROOT, distributions, modules, speedups

TOP_LEVEL = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "core",
    "docs",
    "plugins",
    "pyproject.toml",
    "requirements",
    "tests",
}
MADE = {"build", "dist"}

each_distribution = pytest.mark.parametrize("place", distributions(), ids=lambda place: place.name)
each_speedup = pytest.mark.parametrize("place", speedups(), ids=lambda place: place.parent.name)
each_plugin = pytest.mark.parametrize("place", distributions()[1:], ids=lambda place: place.name)
each_pin_file = pytest.mark.parametrize("name", ["run.txt", "dev.txt"])


def read(place: Path) -> dict[str, Any]:
    return tomllib.loads((place / "pyproject.toml").read_text())


def project(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = read(place)["project"]
    return found


def package(place: Path) -> Path:
    (found,) = [path.parent for path in place.glob("src/*/__init__.py")]
    return found


def version(place: Path) -> str:
    match = re.search(r'^__version__ = "(.+)"$', (package(place) / "__init__.py").read_text(), re.MULTILINE)
    assert match, f"{package(place)} has no __version__"
    return match[1]


def pins(name: str) -> dict[str, set[str]]:
    """Return each pinned distribution with its versions; several where they depend on Python's own."""
    found: dict[str, set[str]] = {}
    for match in re.finditer(
        r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE
    ):
        found.setdefault(match[1], set()).add(match[2])
    return found


def test_top_level_is_as_planned() -> None:
    """Nothing lies at the top of the tree but what belongs there; dot-files aside."""
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}

    assert found - MADE == TOP_LEVEL


def test_root_is_no_project() -> None:
    """The root holds settings only."""
    assert "project" not in read(ROOT)


@each_distribution
def test_distribution_is_complete(place: Path) -> None:
    """Each has a README, the same LICENSE, types, and takes its version from its package."""
    described = project(place)

    assert described["name"] == package(place).name.replace("_", "-")
    assert described["requires-python"] == ">=3.11"
    assert described["dynamic"] == ["version"]
    assert read(place)["tool"]["hatch"]["version"]["path"] == f"src/{package(place).name}/__init__.py"
    check_files(place)


def check_files(place: Path) -> None:
    assert (place / "README.md").read_text().startswith(f"# {project(place)['name']}\n")
    assert (place / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (package(place) / "py.typed").is_file()


def test_versions_are_equal() -> None:
    """All distributions are released together, under one version."""
    assert {version(place) for place in (*distributions(), *speedups())} == {version(CORE)}


@each_plugin
def test_plugin_bounds_core(place: Path) -> None:
    """A plugin names the core it was made for: from this minor version on, and not the next."""
    major, minor = map(int, version(CORE).split(".")[:2])

    assert f"producer-pool>={major}.{minor},<{major}.{minor + 1}" in project(place)["dependencies"]


@each_plugin
def test_plugin_is_named_after_its_folder(place: Path) -> None:
    """plugins/tcp is producer-pool-tcp, and each of its entry points is a scheme of its own package."""
    entry_points = project(place)["entry-points"]["producer_pool.transports"]

    assert project(place)["name"] == f"producer-pool-{place.name}"
    assert {module.partition(".")[0] for module in entry_points.values()} == {package(place).name}


@each_speedup
def test_what_is_compiled_is_optional(place: Path) -> None:
    """It belongs to the plugin in whose folder it lies, needs nothing, and is an extra of that plugin."""
    plugin = place.parent
    major, minor = map(int, version(CORE).split(".")[:2])
    name = f"{project(plugin)['name']}-speedups"

    assert project(place)["name"] == name == package(place).name.replace("_", "-")
    assert project(place)["dependencies"] == []
    assert project(place)["requires-python"] == project(plugin)["requires-python"]
    assert read(place)["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": f"{package(place).name}.__version__"
    }
    assert project(plugin)["optional-dependencies"]["speedups"] == [
        f"{name}>={major}.{minor},<{major}.{minor + 1}"
    ]
    check_files(place)


@each_speedup
def test_what_is_compiled_knows_nobody(place: Path) -> None:
    """It imports itself only, so that any version of it may lie beside any other of ours."""
    imported = {one.target.partition(".")[0] for module in modules(place / "src") for one in module.imports()}

    assert imported == {package(place).name}


def test_extras_name_only_what_exists() -> None:
    """An extra may name third parties and our own distributions that are in this tree, with their bounds."""
    ours = {project(place)["name"] for place in distributions()}
    wanted = [need for needs in project(CORE)["optional-dependencies"].values() for need in needs]
    named = {re.split(r"[^a-z0-9-]", need)[0] for need in wanted if need.startswith("producer-pool")}

    assert named <= ours


def test_all_means_every_extra_of_ours_and_the_command_line() -> None:
    """`[all]` is the union of `[cli]` and the extras that name plugins, each called as its folder."""
    extras = project(CORE)["optional-dependencies"]
    ours = sorted(set(extras) & {place.name for place in distributions()})

    assert extras["all"] == [f"producer-pool[{','.join(['cli', *ours])}]"]
    for name in ours:
        assert [need.split(">=")[0] for need in extras[name]] == [f"producer-pool-{name}"]


def test_errors_name_the_distributions_of_this_tree() -> None:
    """Where an error says what to install, that distribution serves the scheme."""
    named = set(project(CORE)["optional-dependencies"]) & {place.name for place in distributions()}
    declared = {
        name.replace(".", "+"): project(place)["name"]
        for place in distributions()
        if place.name in named
        for name in project(place)["entry-points"]["producer_pool.transports"]
    }

    assert declared == PUBLISHED


def test_pins_have_no_url() -> None:
    """Pins say what, never from where."""
    for path in (ROOT / "requirements").iterdir():
        assert not re.search(
            r"://|^\s*(-i|--index|--extra-index|--find-links)", path.read_text(), re.MULTILINE
        ), path


@each_pin_file
def test_pins_have_hashes(name: str) -> None:
    """No line installs anything that is not known by its hash."""
    text = (ROOT / "requirements" / name).read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())

    assert pins(name)
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_run_pins_are_those_of_dev() -> None:
    """`make run` and `make test` use the same versions."""
    assert pins("run.txt").items() <= pins("dev.txt").items()


@each_distribution
def test_dependencies_are_pinned_and_bounded_below(place: Path) -> None:
    """What a distribution needs at run time has a floor, and is in run.txt."""
    extras = project(place).get("optional-dependencies", {})
    for need in [*project(place)["dependencies"], *extras.get("cli", [])]:
        match = re.fullmatch(r"([a-z0-9-]+)>=[0-9.]+(,<[0-9.]+)?", need)

        assert match, need
        assert match[1] in pins("run.txt") or match[1].startswith("producer-pool"), need


def is_fixed_host(host: str) -> bool:
    """Say whether *host* is somebody's real machine: not loopback, a wildcard, or reserved for examples."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        reserved = ("example", "example.com", "example.net", "example.org", "invalid", "localhost", "test")
        names = host.lower().rstrip(".").split(".")
        return len(names) > 1 and not any(
            host.lower().endswith(f".{name}") or host == name for name in reserved
        )
    return not (address.is_loopback or address.is_unspecified or address.is_private or address.is_multicast)


@pytest.mark.parametrize(
    "host,fixed",
    [
        ("127.0.0.2", False),
        ("[::1]", False),
        ("0.0.0.0", False),
        ("192.0.2.7", False),
        ("db.example.com", False),
        ("consumer", False),
        ("8.8.8.8", True),
        ("db.acme.io", True),
    ],
)
def test_fixed_hosts_are_told_from_placeholders(host: str, fixed: bool) -> None:
    """Loopback and the names and networks reserved for documentation are no one's."""
    assert is_fixed_host(host) is fixed


def test_sources_name_no_fixed_host() -> None:
    """Neither product nor tests reach out to a host that somebody has; links to documents aside."""
    allowed = {Path(__file__)}
    found = []
    for place in (*distributions(), *speedups(), ROOT / "tests"):
        for path in {module.path for module in modules(place)} - allowed:
            text = path.read_text()
            hosts = re.findall(r"\b(?!https?:)[a-z][a-z0-9+.]*://(?:[^\s/@\"']*@)?([\w.-]+\.[a-z]+)\b", text)
            hosts += re.findall(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])", text)
            found += [f"{path}: {host}" for host in hosts if is_fixed_host(host)]

    assert found == []
