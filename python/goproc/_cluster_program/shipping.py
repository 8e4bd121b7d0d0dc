"""--ship: copies packages, modules and folders to all machines of a cluster, also to those that join later.

A plugin of Dask (unpacking.py) carries the files as an archive. On each machine it unpacks them into the folder of the
Dask worker, and puts them first in sys.path and PYTHONPATH; the worker processes have these, too. Dask removes the
folder.

Pickling by value (cloudpickle.register_pickle_by_value) would send the functions with each task, and finds no module
that a function imports when it runs. Dask's UploadDirectory needs a nanny, which restarts the worker; its upload_file
leaves archives zipped, so data files and extension modules are not found.
"""

import importlib.util
import io
import os
import zipfile

__all__ = ["archive_of", "ship", "unship"]

#: Archives of more bytes are refused: they take that memory in the scheduler as well.
MOST = 256 << 20

_LEFT_OUT = {"__pycache__", "node_modules", "build", "dist"}

_names: list = []


def ship(client, what) -> None:
    """Copy packages, modules and folders to the machines of a Client's cluster. what: names, or paths.

    Raises ModuleNotFoundError or FileNotFoundError for one that does not exist, ValueError if the archive is too large.
    """
    if not what:
        return
    from .unpacking import Unpacking

    plugin = Unpacking(archive_of(what))
    client.register_plugin(plugin, name=plugin.name)
    _names.append(plugin.name)


def unship(client) -> None:
    """Have the machines forget what ship() has copied."""
    while _names:
        try:
            client.unregister_worker_plugin(_names.pop())
        except (OSError, ValueError, RuntimeError):
            pass  # the scheduler is gone, or another program had shipped the same


def archive_of(what) -> bytes:
    """Return the zip archive of packages, modules and folders. Raises what ship() raises."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in what:
            for path, name in _files(each):
                # With a fixed date: the same files make the same archive.
                info = zipfile.ZipInfo(name)
                info.external_attr = (os.stat(path).st_mode & 0o777) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                with open(path, "rb") as file:
                    archive.writestr(info, file.read())
                if memory.tell() > MOST:
                    raise ValueError(
                        f"--ship {each}: more than {MOST >> 20} MiB. Ship a smaller folder, or install it there"
                    )
    return memory.getvalue()


def _files(what):
    """Yield (path, name in the archive) of the files of a package, a module or a folder."""
    path = what
    if os.sep not in what and not os.path.isdir(what):
        try:
            spec = importlib.util.find_spec(what)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            raise ModuleNotFoundError(f"--ship {what}: there is no such package, module or folder", name=what)
        if spec.submodule_search_locations:
            path = next(iter(spec.submodule_search_locations))
        elif spec.origin is not None and os.path.isfile(spec.origin):
            yield spec.origin, os.path.basename(spec.origin)
            return
        else:
            raise ModuleNotFoundError(f"--ship {what}: this module is in no file", name=what)
    if os.path.isfile(path):
        yield path, os.path.basename(path)
        return
    if not os.path.isdir(path):
        raise FileNotFoundError(f"--ship {what}: there is no such package, module or folder")
    path = os.path.abspath(path)
    is_package = os.path.isfile(os.path.join(path, "__init__.py")) or os.sep not in what and not os.path.isdir(what)
    base = os.path.dirname(path) if is_package else path
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        for name in sorted(files):
            full = os.path.join(folder, name)
            if os.path.isfile(full) and not name.endswith((".pyc", ".pyo")):
                yield full, os.path.relpath(full, base)
