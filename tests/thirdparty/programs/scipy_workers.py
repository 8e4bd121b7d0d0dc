"""scipy's `workers=2`: a multiprocessing.Pool that scipy makes, and the map of a Pool that it is given."""

import multiprocessing

import numpy
from scipy.integrate import quad_vec
from scipy.optimize import brute, differential_evolution, rosen


def wave(x):
    return numpy.sin(x)


def main():
    bounds = [(-2, 2)] * 2
    found = differential_evolution(rosen, bounds, seed=1, workers=2, updating="deferred", maxiter=30, polish=False)
    print("differential_evolution", found.nit, float(found.fun).hex())
    print("quad_vec", round(float(quad_vec(wave, 0, numpy.pi, workers=2)[0]), 9))
    with multiprocessing.Pool(2) as pool:
        print("brute", brute(rosen, ((-1, 2), (-1, 2)), Ns=20, finish=None, workers=pool.map).tolist())


if __name__ == "__main__":
    main()
