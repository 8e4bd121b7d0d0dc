"""Django's test runner with --parallel 2: a database for each process, tests of several classes, and one that fails."""

import os
import sys
import tempfile
from pathlib import Path

SETTINGS = """
SECRET_KEY = "none"
INSTALLED_APPS = ["notes"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
"""

MODELS = """
from django.db import models
class Note(models.Model):
    text = models.CharField(max_length=20)
"""

TESTS = """
from django.test import TestCase
from notes.models import Note
class {name}(TestCase):
    def test_notes(self):
        Note.objects.create(text="{name}")
        self.assertEqual([note.text for note in Note.objects.all()], ["{name}"])
    def test_empty(self):
        self.assertEqual(Note.objects.count(), {count})
"""


def write_project(folder):
    """Make a project with an application, and put the folder where its modules are looked for."""
    (folder / "notes").mkdir()
    (folder / "settings.py").write_text(SETTINGS)
    (folder / "notes" / "__init__.py").write_text("")
    (folder / "notes" / "models.py").write_text(MODELS)
    for number in range(6):
        text = TESTS.format(name=f"Case{number}", count=1 if number == 3 else 0)
        (folder / "notes" / f"test_{number}.py").write_text(text)
    sys.path.insert(0, str(folder))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"


def main():
    with tempfile.TemporaryDirectory() as folder:
        write_project(Path(folder))
        os.chdir(folder)
        import django
        from django.test.runner import DiscoverRunner

        django.setup()
        report = sys.stderr = tempfile.TemporaryFile("w+")  # it says how long it took
        try:
            failed = DiscoverRunner(parallel=2, verbosity=1, interactive=False).run_tests(["notes"])
        finally:
            sys.stderr = sys.__stderr__
        report.seek(0)
        lines = report.read().splitlines()
        print("failed", failed, [line for line in lines if line.startswith(("FAIL:", "FAILED", "AssertionError"))])
        os.chdir("/")


if __name__ == "__main__":
    main()
