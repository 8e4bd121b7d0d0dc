"""One call of imap_unordered: its results are taken in the order in which they come. Used by results.py."""

from collections import deque

from .iteration import Iteration

__all__ = ["UnorderedIteration"]


class UnorderedIteration(Iteration):
    """One call of imap_unordered."""

    def _next_index(self):
        while True:
            try:
                for index in self._ready:
                    # The exception of reading the input comes after the results of all items that had been read.
                    if index != self._error_at or self._taken == self._error_at:
                        return index
                return None
            except RuntimeError:
                pass  # another thread has taken or delivered a result meanwhile

    @property
    def _index(self):
        self._dispatch.poll()
        return self._received

    @property
    def _items(self):
        self._dispatch.poll()
        return deque(self._ready.values())

    @property
    def _unsorted(self):
        return {}

    def _set(self, i, obj):
        if self._held:
            self._held.pop(i, None)
        if self._special:
            self._set_special(i, obj)
        elif i != self._last:
            self._ready[i] = obj
            self._last = i
            self._received += 1
        if self._received == self._length:
            self._complete()
        if self._watchers and self.done:
            self._notify()

    def _keep(self, i, obj):
        if i != self._last:
            self._ready[i] = obj
            self._last = i
            self._received += 1

    def _fail_next(self, error):
        self._fail_at(-1, self._taken + len(self._ready) + 1, error)
