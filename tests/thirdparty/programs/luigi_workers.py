"""luigi: a graph of tasks with two workers, each task in a process of its own."""

import os
import tempfile

import luigi


class Part(luigi.Task):
    folder = luigi.Parameter()
    number = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget(os.path.join(self.folder, f"part-{self.number}"))

    def run(self):
        with self.output().open("w") as file:
            file.write(f"{self.number**2} {os.getpid()}")


class Sum(luigi.Task):
    folder = luigi.Parameter()

    def requires(self):
        return [Part(self.folder, number) for number in range(8)]

    def output(self):
        return luigi.LocalTarget(os.path.join(self.folder, "sum"))

    def run(self):
        parts = [target.open().read().split() for target in self.input()]
        with self.output().open("w") as file:
            file.write(f"{sum(int(value) for value, _ in parts)} {len({pid for _, pid in parts})}")


def main():
    options = {"workers": 2, "local_scheduler": True, "log_level": "CRITICAL", "detailed_summary": True}
    with tempfile.TemporaryDirectory() as folder:
        result = luigi.build([Sum(folder)], **options)
        print(result.status, Sum(folder).output().open().read())


if __name__ == "__main__":
    main()
