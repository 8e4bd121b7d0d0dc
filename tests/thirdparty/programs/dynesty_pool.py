"""dynesty: nested sampling with its own Pool, whose workers keep the functions, and with multiprocessing's."""

import multiprocessing

import dynesty
import numpy as np
from dynesty.pool import Pool


def log_likelihood(x):
    return -0.5 * float(np.sum(x**2)) / 0.1


def prior(u):
    return 2.0 * u - 1.0


def evidence(*functions, **options):
    sampler = dynesty.NestedSampler(
        *functions, 2, nlive=40, rstate=np.random.default_rng(1), queue_size=2, sample="unif", **options
    )
    sampler.run_nested(dlogz=1.0, print_progress=False)
    return round(float(sampler.results.logz[-1]), 6)


def main():
    with Pool(2, log_likelihood, prior) as pool:
        print("dynesty.pool", evidence(pool.loglike, pool.prior_transform, pool=pool))
    with multiprocessing.Pool(2) as pool:
        print("multiprocessing", evidence(log_likelihood, prior, pool=pool))


if __name__ == "__main__":
    main()
