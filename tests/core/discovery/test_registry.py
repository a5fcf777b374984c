"""Each way from a scheme to a transport, and each way in which that goes wrong, on real metadata."""

import importlib
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from producer_pool.discovery.registry import Registry
from producer_pool.discovery.selection import PluginSelection
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, PluginLoadError, SchemeConflict, UnknownScheme
from support.distributions import Site, transports_module


def registry(**selection: object) -> Registry:
    return Registry(PluginSelection.of(**selection))  # type: ignore[arg-type]


# -- finding -------------------------------------------------------------------------------------------


def test_scheme_of_an_installed_plugin(site: Site) -> None:
    """Its module is imported, and registered under distribution and value."""
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )

    loaded = registry().load("fifo")

    assert tuple(loaded.transport.schemes) == ("fifo",)
    assert loaded.provided.title == "acme-fifo 1.0"
    assert loaded.plugin is sys.modules["acme_fifo"]


def test_scheme_with_a_plus(site: Site) -> None:
    """It stands in the entry point's name as a dot."""
    site.install(
        "acme-fifo",
        transports={"fifo.tls": "acme_fifo"},
        modules={"acme_fifo": transports_module("fifo+tls")},
    )

    assert "fifo+tls" in registry().transport("fifo+tls").schemes
    with pytest.raises(UnknownScheme):
        registry().transport("fifo")


def test_entry_point_that_names_an_object(site: Site) -> None:
    """``module:object`` works too, with the hooks as its methods."""
    source = """
    from producer_pool.plugin import Client, Transport, hookimpl

    class Plugin:
        @hookimpl
        def producer_pool_transports(self):
            return [Transport(schemes=["fifo"], client=lambda endpoint, options: None)]

    plugin = Plugin()
    """
    site.install("acme-fifo", transports={"fifo": "acme_fifo:plugin"}, modules={"acme_fifo": source})

    assert "fifo" in registry().transport("fifo").schemes


def test_one_module_with_two_schemes(site: Site) -> None:
    """Each can be asked for; the module is registered once."""
    site.install(
        "acme-ws",
        transports={"ews": "acme_ws", "ewss": "acme_ws"},
        modules={"acme_ws": transports_module("ews", "ewss")},
    )
    plugins = registry()

    assert plugins.transport("ews") is not None
    assert plugins.load("ewss").plugin is plugins.load("ews").plugin


def test_only_the_plugin_that_is_asked_for_is_imported(site: Site) -> None:
    """The other one is broken, and nobody notices."""
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )
    site.install("acme-bad", transports={"bad": "acme_bad"}, modules={"acme_bad": "raise RuntimeError"})

    assert "fifo" in registry().transport("fifo").schemes
    assert "acme_bad" not in sys.modules


def test_listing(site: Site) -> None:
    """It reads metadata, tells where things come from, and imports nothing."""
    metadata = site.install(
        "acme-bad", "2.1", transports={"bad.tls": "acme_bad"}, modules={"acme_bad": "1/0"}
    )
    (metadata / "direct_url.json").write_text('{"url": "file:///src", "dir_info": {"editable": true}}')
    site.install("acme-metrics", plugins={"metrics": "acme_metrics"})

    found = {entry.name: entry for entry in registry().installed()}

    assert found["bad.tls"].scheme == "bad+tls"
    assert found["bad.tls"].title == "acme-bad 2.1"
    assert found["bad.tls"].location == str(site.folder)
    assert found["bad.tls"].editable
    assert not found["metrics"].editable
    assert found["stdout"].distribution == "producer-pool"
    assert "acme_bad" not in sys.modules


def test_two_copies_of_one_distribution(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first on sys.path counts, as with imports; that is no conflict."""
    site.install(
        "acme-fifo", "2.0", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )
    later = tmp_path / "later"
    later.mkdir()
    Site(later).install("Acme.Fifo", "1.0", transports={"fifo": "old", "old": "old"})
    monkeypatch.setattr(sys, "path", [*sys.path, str(later)])

    assert registry().load("fifo").provided.version == "2.0"
    with pytest.raises(UnknownScheme):
        registry().transport("old")


def test_distribution_in_a_zip_file(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cheap scan cannot read is found all the same."""
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )
    archive = tmp_path / "acme.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in site.folder.rglob("*"):
            file.write(path, path.relative_to(site.folder))
    monkeypatch.setattr(sys, "path", [str(archive), *sys.path[1:]])

    loaded = registry().load("fifo")
    del sys.modules["acme_fifo"]

    assert loaded.provided.title == "acme-fifo 1.0"


def test_distribution_with_damaged_metadata(site: Site) -> None:
    """It hides no other one."""
    (site.install("acme-bad", transports={"bad": "acme_bad"}) / "METADATA").unlink()
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )

    assert "fifo" in registry().transport("fifo").schemes


def test_installed_while_the_program_runs(site: Site) -> None:
    """It is found when it is asked for again."""
    plugins = registry()
    with pytest.raises(UnknownScheme):
        plugins.transport("fifo")
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )

    assert "fifo" in plugins.transport("fifo").schemes


def test_removed_while_the_program_runs(site: Site) -> None:
    """What is loaded stays loaded."""
    metadata = site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )
    plugins = registry()
    plugins.transport("fifo")
    shutil.rmtree(metadata)

    assert "fifo" in plugins.transport("fifo").schemes


def test_many_threads_ask_at_once(site: Site) -> None:
    """The plugin is loaded once, and all get the same."""
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )
    plugins, found = registry(), []
    threads = [threading.Thread(target=lambda: found.append(plugins.load("fifo"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 16
    assert len(set(map(id, found))) == 1


# -- unknown schemes -----------------------------------------------------------------------------------


def test_unknown_scheme_of_a_published_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the line that installs it."""
    importlib.import_module("importlib_metadata")  # which is somewhere on the path, too
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(UnknownScheme, match=r"try: pip install producer-pool-tcp$") as caught:
        registry().transport("tcp")

    assert caught.value.scheme == "tcp"


def test_scheme_with_a_typo(site: Site) -> None:
    """The nearest scheme is suggested, and what is installed is listed."""
    site.install("acme-fifo", transports={"fifo": "acme_fifo"})

    with pytest.raises(UnknownScheme, match=r"handles fiof://; installed: .*fifo.*; did you mean fifo\?"):
        registry().transport("fiof")


def test_scheme_that_nobody_is_known_to_serve(site: Site) -> None:
    """No distribution is invented: the error says how to look for one."""
    with pytest.raises(UnknownScheme) as caught:
        registry().transport("amqp")

    assert "no installed plugin handles amqp://; installed: " in str(caught.value)
    assert "package index" in str(caught.value)
    assert "pip install" not in str(caught.value)
    assert "producer-pool-amqp" not in str(caught.value)


# -- two distributions ---------------------------------------------------------------------------------


@pytest.fixture
def rivals(site: Site) -> Site:
    site.install(
        "acme-fifo",
        "3.1",
        transports={"fifo": "acme_fifo", "fast": "acme_fifo"},
        modules={"acme_fifo": transports_module("fifo", "fast")},
    )
    site.install(
        "other-fifo",
        "1.2",
        transports={"fifo": "other_fifo"},
        modules={"other_fifo": transports_module("fifo")},
    )
    return site


def test_two_distributions_for_one_scheme(rivals: Site) -> None:
    """An error that names both, with versions, and how to choose."""
    with pytest.raises(SchemeConflict) as caught:
        registry().transport("fifo")

    assert str(caught.value) == (
        "2 installed plugins handle fifo://: acme-fifo 3.1 (acme_fifo), other-fifo 1.2 (other_fifo); "
        "uninstall all but one, or choose one: PRODUCER_POOL_PLUGIN_FIFO=acme-fifo"
    )
    assert caught.value.distributions == ("acme-fifo", "other-fifo")


def test_two_distributions_with_one_of_them_loaded_before(rivals: Site) -> None:
    """That another scheme of its module was asked for decides nothing."""
    plugins = registry()
    plugins.transport("fast")

    with pytest.raises(SchemeConflict):
        plugins.transport("fifo")


def test_chosen_distribution(rivals: Site) -> None:
    """The choice decides, however its name is spelt."""
    plugins = Registry(PluginSelection.from_env({"PRODUCER_POOL_PLUGIN_FIFO": "Other_Fifo"}))

    assert plugins.load("fifo").provided.distribution == "other-fifo"
    assert "acme_fifo" not in sys.modules


def test_chosen_distribution_that_does_not_serve_the_scheme(rivals: Site) -> None:
    """The error names those that do."""
    plugins = registry(chosen={"fifo": "third-fifo"})

    with pytest.raises(
        ConfigurationError,
        match=r"PRODUCER_POOL_PLUGIN_FIFO=third-fifo, but fifo:// .* acme-fifo 3.1, other-fifo 1.2",
    ):
        plugins.transport("fifo")


def test_rival_of_a_built_in_sink(site: Site) -> None:
    """It takes over only where it is chosen."""
    site.install(
        "acme-null", transports={"null": "acme_null"}, modules={"acme_null": transports_module("null")}
    )

    with pytest.raises(SchemeConflict, match=r"acme-null 1.0 .*, producer-pool "):
        registry().transport("null")
    assert registry(chosen={"null": "acme-null"}).load("null").provided.distribution == "acme-null"


# -- which may be used ---------------------------------------------------------------------------------


def test_denied_distribution(rivals: Site) -> None:
    """It is as good as not installed, and takes part in no conflict."""
    plugins = Registry(PluginSelection.from_env({"PRODUCER_POOL_DISABLE_PLUGINS": "acme_fifo, x"}))

    assert plugins.load("fifo").provided.distribution == "other-fifo"
    with pytest.raises(PluginLoadError, match=r"acme-fifo 3.1 handles fast://, but it is disabled"):
        plugins.transport("fast")
    assert "fast" not in plugins.schemes()


def test_list_of_allowed_distributions(rivals: Site) -> None:
    """No other one is used."""
    plugins = Registry(PluginSelection.from_env({"PRODUCER_POOL_PLUGINS": "other-fifo"}))

    assert plugins.load("fifo").provided.distribution == "other-fifo"
    with pytest.raises(PluginLoadError, match="not among those allowed"):
        plugins.transport("fast")


def test_empty_list_of_allowed_distributions(rivals: Site) -> None:
    """It allows none; the sinks of core are no plugins and stay."""
    plugins = Registry(PluginSelection.from_env({"PRODUCER_POOL_PLUGINS": ""}))

    with pytest.raises(PluginLoadError):
        plugins.transport("fifo")
    assert "null" in plugins.transport("null").schemes
    assert plugins.schemes() == ["memory", "null", "stdout"]


# -- making ----------------------------------------------------------------------------------------------


def test_hooks_of_other_transports_are_not_asked(site: Site) -> None:
    """The plugin that came last, and answers for every scheme, is not asked for those of others."""
    greedy = "@hookimpl\ndef producer_pool_make_client(endpoint): return FakeClient(endpoint, None)"
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )
    site.install(
        "acme-greedy",
        transports={"greedy": "acme_greedy"},
        modules={"acme_greedy": transports_module("greedy", more=greedy)},
    )
    plugins = registry()
    plugins.transport("fifo")
    plugins.transport("greedy")

    made = plugins.make_client(Endpoint.parse("fifo://h"), None)

    assert made.protocol_name == "acme_fifo"
    assert plugins.make_client(Endpoint.parse("greedy://h"), None).protocol_name == "acme_greedy"


def test_factory_that_makes_something_else(site: Site) -> None:
    """The error names the distribution and what it made."""
    source = transports_module("fifo").replace("client=FakeClient", "client=lambda endpoint, options: 42")
    site.install("acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": source})

    with pytest.raises(PluginLoadError, match=r"acme-fifo 1.0 made a int for fifo://h, not a Client"):
        registry().make_client(Endpoint.parse("fifo://h"), None)


# -- what the program registers itself -----------------------------------------------------------------


def test_registered_file(tmp_path: Path) -> None:
    """A plugin in one file needs no package and no entry point."""
    path = tmp_path / "my_fifo.py"
    path.write_text(transports_module("fifo"))
    plugins = registry()

    (transport,) = plugins.register_file(path)

    assert plugins.transport("fifo") is transport
    assert plugins.load("fifo").provided.title == str(path)
    assert "fifo" in plugins.schemes()
    assert any(entry.scheme == "fifo" for entry in plugins.installed())
    del sys.modules["producer_pool_file_my_fifo"]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.txt", "", "is no Python file; name one that ends in .py"),
        ("none.py", None, "cannot be imported: no such file$"),
        ("bad.py", "def f(:", r"cannot be imported: SyntaxError: invalid syntax \(bad.py, line 1\)$"),
        (
            "bad.py",
            "import not_there",
            "cannot be imported: ModuleNotFoundError: No module named 'not_there'",
        ),
    ],
)
def test_registered_file_that_cannot_be_used(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    """The error names the file."""
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(PluginLoadError, match=message) as caught:
        registry().register_file(tmp_path / name)

    assert str(caught.value).startswith(str(tmp_path / name))
    assert "producer_pool_file_bad" not in sys.modules


def test_relative_path_of_a_file_that_is_not_there() -> None:
    """The error says where it was looked for."""
    with pytest.raises(PluginLoadError, match=r"^none\.py cannot .* no such file; the path is relative to "):
        registry().register_file("none.py")


def test_registered_file_without_hooks(tmp_path: Path) -> None:
    """It would do nothing: somebody forgot to mark the hooks, or named another file."""
    path = tmp_path / "my_fifo.py"
    path.write_text(transports_module("fifo").replace("@hookimpl", ""))

    with pytest.raises(PluginLoadError, match=r"my_fifo\.py adds nothing: mark its hooks with @hookimpl"):
        registry().register_file(path)

    del sys.modules["producer_pool_file_my_fifo"]


def test_file_that_is_registered_twice(tmp_path: Path) -> None:
    """The second time is an error in one line, which says nothing of what is registered besides."""
    path = tmp_path / "my_fifo.py"
    path.write_text(transports_module("fifo"))
    plugins = registry()
    plugins.register_file(path)

    with pytest.raises(PluginLoadError) as caught:
        plugins.register_file(path)

    assert str(caught.value) == f"{path} is registered already; once is enough"
    del sys.modules["producer_pool_file_my_fifo"]


class Own:
    """A plugin as an object in a program."""

    def __init__(self, *schemes: str) -> None:
        self.module: dict[str, object] = {"__name__": "own"}
        exec(transports_module(*schemes), self.module)
        self.producer_pool_transports = self.module["producer_pool_transports"]


def test_registered_object_before_an_installed_plugin(site: Site) -> None:
    """What the program itself registers comes first."""
    site.install(
        "acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": transports_module("fifo")}
    )
    plugins = registry()
    plugins.transport("fifo")
    plugins.register(Own("fifo"), "mine")

    assert plugins.load("fifo").provided.title == "mine"


def test_registered_twice() -> None:
    """The second of two for one scheme is refused, and so is the same one again; the first one stays."""
    plugins, first = registry(), Own("fifo")
    plugins.register(first, "first")

    with pytest.raises(SchemeConflict, match=r"first \(first\), second \(second\)"):
        plugins.register(Own("fast", "fifo"), "second")
    with pytest.raises(PluginLoadError, match="again is registered already"):
        plugins.register(first, "again")
    assert plugins.load("fifo").plugin is first
    with pytest.raises(UnknownScheme):
        plugins.transport("fast")


# -- what it costs ---------------------------------------------------------------------------------------


def test_what_is_imported() -> None:
    """Listing needs neither pluggy nor importlib_metadata; loading needs the first of them."""
    program = """
import sys
from producer_pool.discovery.registry import Registry
plugins = Registry()
plugins.installed(), plugins.schemes()
print([name for name in ("pluggy", "importlib_metadata", "importlib.metadata") if name in sys.modules])
plugins.transport("null")
plugins.wiring().stages("x", None)
print([name for name in ("pluggy", "importlib_metadata", "importlib.metadata") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout.splitlines() == ["[]", "['pluggy']"]
