"""emcee: an ensemble sampler whose walkers are evaluated by a Pool. The chain is the same as without the Pool."""

import multiprocessing

import emcee
import numpy as np


def log_probability(theta):
    return -0.5 * float(np.sum(theta**2))


def chain(pool=None):
    start = np.random.default_rng(3).normal(size=(16, 4))
    sampler = emcee.EnsembleSampler(16, 4, log_probability, pool=pool)
    sampler.random_state = np.random.RandomState(5).get_state()
    sampler.run_mcmc(start, 60)
    return sampler.get_chain(flat=True)


def main():
    np.random.seed(11)
    alone = chain()
    np.random.seed(11)
    with multiprocessing.Pool(2) as pool:
        together = chain(pool)
    print(together.shape, np.array_equal(alone, together))


if __name__ == "__main__":
    main()
