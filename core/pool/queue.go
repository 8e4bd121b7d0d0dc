package pool

import (
	"unsafe"

	"github.com/goproc/goproc/core/ring"
)

// task is a task, or what is left of a batch, that no worker has.
type task struct {
	frame   ring.Frame
	payload []byte
	retries int // how often it may be run again if it is lost with its worker
}

// extent is the description of the task's extent, nil for none.
func (t task) extent() []byte {
	if t.frame.Flags&ring.FlagExtent == 0 {
		return nil
	}
	return t.payload
}

// queue is a double-ended queue of tasks; the zero value is empty.
type queue struct {
	items []task // a ring buffer, of a length that is a power of two
	head  int
	count int
}

func (q *queue) empty() bool  { return q.count == 0 }
func (q *queue) len() int     { return q.count }
func (q *queue) front() *task { return &q.items[q.head] }

// tasks is how many tasks are queued, or most if there are more.
func (q *queue) tasks(most int) int {
	n := 0
	for i := 0; i < q.count && n < most; i++ {
		n += q.items[(q.head+i)&(len(q.items)-1)].frame.Tasks()
	}
	return min(n, most)
}

func (q *queue) pushBack(t task) {
	q.grow()
	q.items[(q.head+q.count)&(len(q.items)-1)] = t
	q.count++
}

func (q *queue) pushFront(t task) {
	q.grow()
	q.head = (q.head - 1) & (len(q.items) - 1)
	q.items[q.head] = t
	q.count++
}

func (q *queue) popFront() task {
	t := q.items[q.head]
	q.items[q.head] = task{}
	q.head = (q.head + 1) & (len(q.items) - 1)
	if q.count--; q.count == 0 && len(q.items) > 1024 {
		*q = queue{} // a burst's memory is not kept
	}
	return t
}

// remove removes the tasks for which match returns true, and calls each with every removed task, in their order.
func (q *queue) remove(match func(*task) bool, each func(task)) {
	for range q.count {
		if t := q.popFront(); match(&t) {
			each(t)
		} else {
			q.pushBack(t)
		}
	}
}

// grows is how many bytes one more task would have the queue allocate.
func (q *queue) grows() int {
	if q.count < len(q.items) {
		return 0
	}
	return max(16, 2*len(q.items)) * int(unsafe.Sizeof(task{}))
}

func (q *queue) grow() {
	if q.count < len(q.items) {
		return
	}
	items := make([]task, max(16, 2*len(q.items)))
	n := copy(items, q.items[q.head:])
	copy(items[n:], q.items[:q.head])
	q.items, q.head = items, 0
}
