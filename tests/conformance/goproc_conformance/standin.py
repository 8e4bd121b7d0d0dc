"""A stand-in for ``test.test_multiprocessing_<method>``, for installations that lack it.

CPython 3.11.5 to 3.12.1 turned these modules into packages, and left them out of ``make install``. The tests
themselves, ``test._test_multiprocessing``, are installed. startup.py makes this file importable under the missing name,
also in the tests' children, which look the tests up by that name.
"""

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), __name__.rpartition("_")[2])
