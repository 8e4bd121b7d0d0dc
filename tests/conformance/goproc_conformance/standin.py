"""Stands in for ``test.test_multiprocessing_<method>`` where an installation lacks it.

CPython 3.11.5 to 3.12.1 turned these modules into packages and left them out of ``make install``; the tests themselves,
``test._test_multiprocessing``, are there. startup.py finds this file under the missing name, also in the tests'
children, which look the tests up by that name.
"""

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), __name__.rpartition("_")[2])
