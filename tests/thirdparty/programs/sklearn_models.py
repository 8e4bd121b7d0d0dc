"""scikit-learn with n_jobs=2, on joblib's default backend and on "multiprocessing"."""

from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score


def main():
    features, classes = make_classification(n_samples=400, n_features=10, random_state=0)
    for backend in ("loky", "multiprocessing"):
        with parallel_config(backend=backend):
            scores = cross_val_score(LogisticRegression(), features, classes, cv=4, n_jobs=2)
            print(backend, "cross_val_score", scores.round(4).tolist())
            forest = RandomForestClassifier(n_estimators=20, random_state=0, n_jobs=2).fit(features, classes)
            print(backend, "RandomForest", round(forest.score(features, classes), 4))
            search = GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1, 10]}, cv=3, n_jobs=2)
            search.fit(features, classes)
            print(backend, "GridSearchCV", search.best_params_, round(search.best_score_, 4))


if __name__ == "__main__":
    main()
