"""istarmap, a method that many programs add to Pool by its private parts, to show the progress of starmap."""

import io
import multiprocessing.pool

from tqdm import tqdm


def imap_for_starmap(self, func, iterable, chunksize=1):
    self._check_running()
    batches = multiprocessing.pool.Pool._get_tasks(func, iterable, chunksize)
    result = multiprocessing.pool.IMapIterator(self)
    tasks = self._guarded_task_generation(result._job, multiprocessing.pool.starmapstar, batches)
    self._taskqueue.put((tasks, result._set_length))
    return (item for batch in result for item in batch)


multiprocessing.pool.Pool.imap_for_starmap = imap_for_starmap


def main():
    with multiprocessing.Pool(2) as pool:
        for chunksize in 1, 16:
            pairs = [(n % 7, n % 5) for n in range(500)]
            bar = tqdm(pool.imap_for_starmap(pow, pairs, chunksize), total=len(pairs), file=io.StringIO())
            print(sum(bar), bar.n)


if __name__ == "__main__":
    main()
