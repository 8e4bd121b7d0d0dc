"""The Control of a cluster's pool: _pool/control.py asks the engine, this one asks the ledger and the crew."""

from .._native import CANCELLED

__all__ = ["Control"]


class Control:
    """See _pool/control.py, and calls.py, for what each method does. port, ledger, crew: of the pool."""

    def __init__(self, port, ledger, crew):
        self._port, self._ledger, self._crew = port, ledger, crew

    def limit(self, job, index, microseconds):
        """Limit how long a task that is about to be submitted may run; 0 removes the limit."""
        self._set(self._port.limits, (job, index), microseconds)

    def retry(self, job, index, retries):
        """Set how often a task that is about to be submitted is run again if its worker or its machine is lost."""
        self._set(self._port.retries, (job, index), retries)

    @staticmethod
    def _set(table, key, value):
        if value:
            table[key] = value
        else:
            table.pop(key, None)

    def taken(self, job, index, part):
        """Tell the machine that the program has taken a part of a task, and all parts before it."""
        with self._ledger.lock:
            seat = self._ledger.seat_of(job, index)
            if seat is None:
                return
            seat.calls.append(("taken", job, index, part))
            seat.changed = True
        self._crew.call_soon()

    def cancel(self, job):
        """Withdraw a job's tasks, and end the workers that run one; return how many are not done."""
        count = self._ledger.cancel(job)
        self._crew.call_soon()
        return count

    def withdraw(self, job):
        """Withdraw a job's tasks that have not begun; return how many there were."""
        count = self._ledger.cancel(job, withdraw=True)
        self._crew.call_soon()
        return count

    def withdraw_all(self):
        """Withdraw all tasks that have not begun; return how many there were."""
        with self._ledger.lock:
            return sum(map(self.withdraw, self._ledger.jobs()))

    def cancel_all(self):
        """Withdraw all tasks."""
        jobs = {job for job, _ in self._ledger.take_all()}
        with self._ledger.lock:
            for seat in self._ledger.seats:
                seat.calls += [("cancel", job) for job in jobs]
                seat.changed = True
        self._crew.call_soon()

    def begun(self, job):
        """Return whether a task of the job counts as begun."""
        return self._ledger.begun(job)

    def pending(self):
        """Return how many tasks are not done."""
        return self._ledger.pending()

    def idle(self):
        """Return no process ids: those of other machines mean nothing here."""
        return set()

    def close(self):
        """Refuse further tasks. The machines' pools end when all tasks are done."""
        self._crew.close()

    def terminate(self):
        """Complete all tasks as cancelled."""
        self._port.complete([(job, index, CANCELLED, b"") for job, index in self._ledger.take_all()])

    def destroy(self):
        """Let go of the cluster."""
        self._crew.release()
