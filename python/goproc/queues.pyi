# The types of queues.py: those of multiprocessing's queues, from which goproc's derive.

from multiprocessing.queues import JoinableQueue as JoinableQueue
from multiprocessing.queues import Queue as Queue
from multiprocessing.queues import SimpleQueue as SimpleQueue
from queue import Empty as Empty
from queue import Full as Full

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]
