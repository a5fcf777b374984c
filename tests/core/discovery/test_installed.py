"""The cheap scan against importlib_metadata, which is what it has to agree with."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import importlib_metadata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.discovery.installed import PLUGINS, TRANSPORTS, is_editable, normalized, scan
from support.distributions import Site

NAMES = st.sampled_from(["acme-fifo", "Acme.Fifo", "acme_fifo", "other", "other-x", "third"])
VERSIONS = st.sampled_from(["1.0", "2.0rc1", "0.1.dev3+local"])
LINES = st.sampled_from(
    [
        "[producer_pool.transports]",
        "[producer_pool.plugins]",
        "[console_scripts]",
        "fifo = acme_fifo",
        "fifo.tls=acme.fifo",
        "  x  =  acme.fifo : plugin.inner  ",
        "y = acme [extra1, extra2]",
        "# z = commented",
        "",
    ]
)


FOLDERS = st.lists(
    st.lists(st.tuples(NAMES, VERSIONS, st.lists(LINES)), unique_by=lambda one: normalized(one[0])),
    max_size=3,
)


@pytest.mark.timeout(180)  # It makes thousands of files.
@given(FOLDERS)
def test_any_installed_distributions(folders: list[list[tuple[str, str, list[str]]]]) -> None:
    """The answer is that of importlib_metadata, in whichever folders copies and others lie."""
    with TemporaryDirectory() as base:
        path = []
        for number, distributions in enumerate(folders):
            folder = Path(base, str(number))
            folder.mkdir()
            path.append(str(folder))
            for name, version, lines in distributions:
                metadata = Site(folder).install(name, version)
                (metadata / "entry_points.txt").write_text("\n".join(["[other]", *lines]))
        found = scan(path)
        expected = set()
        seen = set()
        for distribution in importlib_metadata.distributions(path=path):
            key = normalized(distribution.name)
            if key not in seen:
                seen.add(key)
                expected |= {
                    (
                        entry.group,
                        entry.name,
                        distribution.name,
                        distribution.version,
                        entry.module,
                        entry.attr or "",
                    )
                    for entry in distribution.entry_points
                    if entry.group in (TRANSPORTS, PLUGINS)
                }

    assert found is not None
    assert {
        (one.group, one.name, one.distribution, one.version, *one.value.partition(":")[::2]) for one in found
    } == expected


def test_egg_info_of_a_source_tree(tmp_path: Path) -> None:
    """Metadata that setuptools leaves beside the source counts as well."""
    folder = tmp_path / "acme_fifo.egg-info"
    folder.mkdir()
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: acme-fifo\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[producer_pool.transports]\nfifo = acme_fifo\n")

    (found,) = scan([str(tmp_path)]) or ()

    assert found.title == "acme-fifo 1.0"


def test_metadata_of_any_size_and_line_ends(tmp_path: Path) -> None:
    """Metadata may have a long description, and lines that end as on another system; a folder is no file."""
    folder = tmp_path / "acme_fifo-1.0.dist-info"
    folder.mkdir()
    entries = (
        "[console_scripts]\n"
        + "fifo = acme_fifo:main\n" * 10_000
        + "[producer_pool.transports]\nfifo = acme_fifo\n"
    )
    headers = "Metadata-Version: 2.1\nName: acme-fifo\nVersion: 1.0\n\nVersion: of something else\n"
    (folder / "entry_points.txt").write_text(entries, newline="\r\n")
    (folder / "METADATA").write_text(headers + "A long description.\n" * 10_000, newline="\r\n")
    (folder / "direct_url.json").mkdir()

    (found,) = scan([str(tmp_path)]) or ()

    assert (found.scheme, found.title, found.direct_url) == ("fifo", "acme-fifo 1.0", "")


def test_path_that_cannot_be_scanned(tmp_path: Path) -> None:
    """Zip files, eggs and the remains of an update are left to importlib_metadata."""
    (tmp_path / "archive.zip").write_bytes(b"")
    (tmp_path / "an.egg" / "EGG-INFO").mkdir(parents=True)
    site = Site(tmp_path)
    site.install("acme-fifo", "1.0", transports={"fifo": "acme_fifo"})

    assert scan([str(tmp_path / "archive.zip")]) is None
    assert scan([str(tmp_path / "an.egg")]) is None
    assert scan([str(tmp_path / "not-there")]) == ()
    assert len(scan([str(tmp_path)]) or ()) == 1
    site.install("acme-fifo", "2.0", transports={"fifo": "acme_fifo"})
    assert scan([str(tmp_path)]) is None


def test_remains_of_an_update_of_something_else(tmp_path: Path) -> None:
    """What provides nothing in either version does not make the scan give up, which is dear."""
    site = Site(tmp_path)
    site.install("acme-fifo", "1.0", transports={"fifo": "acme_fifo"})
    site.install("other", "1.0")
    site.install("other", "2.0")

    assert [one.title for one in scan([str(tmp_path)]) or ()] == ["acme-fifo 1.0"]


def test_foreign_finder_of_distributions() -> None:
    """Somebody else may know distributions that lie in no folder."""

    class Finder:
        def find_distributions(self) -> None: ...

    finder = Finder()
    sys.meta_path.append(finder)  # type: ignore[arg-type]
    try:
        assert scan([]) is None
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
    assert scan([]) == ()


def test_direct_url() -> None:
    """Only an editable installation is one; what cannot be read tells of none."""
    assert is_editable('{"dir_info": {"editable": true}}')
    assert not is_editable('{"dir_info": {}}')
    assert not is_editable('{"vcs_info": {}}')
    assert not is_editable("[]")
    assert not is_editable("{")
    assert not is_editable("")
