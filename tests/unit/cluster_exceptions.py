"""Which tests of Pool's API are run on a cluster, and which of them cannot hold there: by name, with the reason."""

#: The modules whose tests are run.
MODULES = ("test_pool", "test_pool_callbacks", "test_pool_imap", "test_pool_batches", "test_pool_stream")

_PROCESSES = (
    "It looks at the workers' Process objects: their sentinels, exit codes and signals. The workers of a cluster are "
    "not children of this process."
)
_NAME = "It compares a text that names the class: goproc.pool.Pool, where the cluster's is goproc.cluster.Pool."

_BY_VALUE = "Lambdas can be pickled here: by cloudpickle."

#: Those of them that are not even run: when they fail, they leave a pool behind, which the next test finds.
NOT_RUN = {"test_pool.test_dropped_without_close", "test_pool.test_repr_and_type"}

#: By name: why it cannot hold.
EXCEPTIONS = {
    "test_pool.test_number_of_processes": "A cluster has at most as many workers as cores: here four.",
    "test_pool.test_a_worker_that_ignores_sigterm_is_killed": _PROCESSES,
    "test_pool.test_repr_and_type": _NAME,
    "test_pool.test_dropped_without_close": _NAME,
    "test_pool.test_a_result_that_is_a_connection": "A connection has a meaning on one machine only.",
    "test_pool_callbacks.test_a_callback_may_end_the_pool": _PROCESSES,
    "test_pool_batches.test_an_item_that_cannot_be_pickled": _BY_VALUE,
    "test_pool_stream.test_a_value_that_cannot_be_pickled": _BY_VALUE,
}
