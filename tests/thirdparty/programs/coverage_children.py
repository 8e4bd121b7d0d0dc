"""coverage's concurrency = multiprocessing: lines that only children run are counted, as Processes and in a Pool."""

import multiprocessing
import os
import tempfile

import coverage


def only_in_a_process():
    return os.getpid()  # line: process


def only_in_a_worker(number):
    return number + 1  # line: worker


def main():
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "coveragerc")
        with open(config, "w") as file:
            print(f"[run]\nconcurrency = multiprocessing\nparallel = true\ndata_file = {folder}/data", file=file)
            print(f"include = {__file__}", file=file)
            # A worker that gets no task, as there are fewer than can keep two busy, runs none of these lines.
            print("disable_warnings = no-data-collected", file=file)
        collector = coverage.Coverage(config_file=config)
        collector.start()
        process = multiprocessing.Process(target=only_in_a_process)
        process.start()
        process.join()
        pool = multiprocessing.Pool(2)
        print(pool.map(only_in_a_worker, range(5)))
        pool.close()
        pool.join()
        collector.stop()
        collector.save()
        collector.combine()
        covered = collector.get_data().lines(os.path.abspath(__file__))
    with open(__file__) as file:
        for number, line in enumerate(file, 1):
            if "# line: " in line and "print" not in line and "in line" not in line:
                print(line.rpartition(" ")[2].strip(), number in covered)


if __name__ == "__main__":
    main()
