"""joblib's Parallel on goproc's backend, and scikit-learn's n_jobs: the same numbers as with n_jobs=1."""

import numpy
from joblib import Memory, Parallel, delayed, parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

import goproc.joblib


def norm(array, power):
    return float((array**power).sum())


def numbers():
    features, classes = make_classification(n_samples=2000, n_features=100, random_state=0)
    yield "cross_val_score", cross_val_score(LogisticRegression(), features, classes, cv=4).tolist()
    forest = RandomForestClassifier(n_estimators=10, random_state=0).fit(features, classes)
    yield "RandomForest", forest.predict_proba(features).tolist()
    search = GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1]}, cv=3).fit(features, classes)
    yield "GridSearchCV", search.cv_results_["mean_test_score"].tolist()
    arrays = [numpy.full(200_000, n, dtype=float) for n in range(4)]
    yield "arrays", Parallel()(delayed(norm)(array, 2) for array in arrays)
    yield "lambdas", Parallel()(delayed(lambda n: n + 1)(n) for n in range(10))
    cached = Memory(None).cache(norm)
    yield "Memory", Parallel()(delayed(cached)(array, 2) for array in arrays)


def main():
    goproc.joblib.register()
    with parallel_config(n_jobs=1):
        wanted = dict(numbers())
    with parallel_config(backend="goproc", n_jobs=2):
        for name, found in numbers():
            print(name, found == wanted[name])
    goproc.joblib.shutdown()


if __name__ == "__main__":
    main()
