"""Runs a notebook in a Jupyter kernel, and prints the texts that its cells print, as JSON.

    python notebook.py < CELLS      a JSON list: the source of each cell

Exits with status 1 if a cell raises; its traceback goes to stderr.
"""

import json
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)])
try:
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
except CellExecutionError as error:
    sys.exit(str(error))
finally:
    for cell in notebook.cells:
        texts = [output.text for output in cell.get("outputs", ()) if output.output_type == "stream"]
        print(json.dumps("".join(texts)))
