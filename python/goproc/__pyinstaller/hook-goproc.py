"""Names what PyInstaller does not find in the sources: modules imported by name, and the engine, loaded by path."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules("goproc", filter=lambda name: "__pyinstaller" not in name)
