"""Plugins that are installed, upgraded and removed under a daemon that runs."""

import shutil
from pathlib import Path

import pytest

from producer_pool import __version__
from producer_pool.cli.scaffold.files import render
from producer_pool.cli.scaffold.names import Names
from support.consumers import RecordingConsumer
from support.distributions import Site
from support.processes import daemon, run_command
from support.producers import send_lines

CODE = render(Names.of("queue"), __version__)["src/producer_pool_queue/transport.py"]
QUICK = "retry-backoff=20ms&retry-max-backoff=50ms"


def install(site: Site, version: str, code: str) -> None:
    """Install this version of the plugin in the place of any other."""
    remove(site)
    name = f"acme_queue_{version.partition('.')[0]}" if code != CODE else "acme_queue"
    site.install("acme-queue", version, transports={"queue": name}, modules={name: code})


def remove(site: Site) -> None:
    """Remove all that is installed, as pip does: metadata and code."""
    for path in site.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place for distributions, which a command sees by its PYTHONPATH."""
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)


@pytest.mark.parametrize("change", ["removed", "upgraded"])
def test_plugin_changes_under_a_running_daemon(site: Site, change: str) -> None:
    """The daemon goes on with what it imported, and connects anew with it; the next one sees the change."""
    install(site, "1.0", CODE)
    environment = {"PYTHONPATH": str(site.folder)}
    with RecordingConsumer() as consumer:
        url = consumer.url.replace("tcp:", "queue:")
        with daemon("--to", f"x={url}?{QUICK}", env=environment) as running:
            send_lines(running.port, [b"before"])
            consumer.wait_for(1)
            if change == "removed":
                remove(site)
            else:
                install(site, "2.0", "raise RuntimeError('this is the new one')")
            consumer.go_away()
            send_lines(running.port, [b"meanwhile"])
            running.wait_for_line("x: down")
            consumer.come_back()
            arrived = consumer.wait_for(2)
            ended = running.terminate()
        checked = run_command("check", "--to", f"x={url}", env=environment)

    assert arrived == [b"PUT before", b"PUT meanwhile"]
    assert ended == 0
    wanted = {
        "removed": b"no installed plugin handles queue://",
        "upgraded": b"acme-queue 2.0 is installed but cannot be imported: RuntimeError: this is the new one",
    }
    assert checked.returncode == 78
    assert wanted[change] in checked.stderr


def test_plugin_is_installed_under_a_running_daemon(site: Site) -> None:
    """The daemon has its URLs already, and does not notice; one that is started after that has the scheme."""
    environment = {"PYTHONPATH": str(site.folder)}
    with RecordingConsumer() as consumer:
        url = consumer.url.replace("tcp:", "queue:")
        with daemon("--to", f"x={consumer.url}", env=environment) as running:
            send_lines(running.port, [b"one"])
            consumer.wait_for(1)
            install(site, "1.0", CODE)
            send_lines(running.port, [b"two"])
            consumer.wait_for(2)
            said = running.said
            assert running.terminate() == 0
        with daemon("--to", f"x={url}", env=environment) as restarted:
            send_lines(restarted.port, [b"three"])
            arrived = consumer.wait_for(3)
            assert restarted.terminate() == 0

    assert arrived == [b"one", b"two", b"PUT three"]
    assert "queue" not in said
