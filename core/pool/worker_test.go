package pool

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/goproc/goproc/core/ring"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a worker leaves behind: the results it has delivered count, the task it had claimed is lost, the others run
// elsewhere, in their order.
func TestWorkerDies(t *testing.T) {
	p, counters := newPool(t)
	h := hire(t, p, 0)
	p.believe(1)
	submit(t, p, 1, 2, 3, 4, 5)
	h.send(t, h.recv(t), []byte("delivered"))
	_, ok := h.Claim()
	require.True(t, ok)
	h.exit(-9)
	assert.Equal(t, []string{
		"result 1.1 delivered",
		fmt.Sprintf("lost 1.2 %d -9", h.pid),
		fmt.Sprintf("exited 0.0 %d -9 1", h.pid),
	}, collect(p))
	assert.Equal(t, 3, p.Pending())
	assert.EqualValues(t, 1, counters.tasks.Load())
	assert.EqualValues(t, 1, counters.lost.Load())

	next := hire(t, p, 0)
	assert.Equal(t, h.slot, next.slot, "the slot is used again")
	for i := range uint64(3) {
		task := next.recv(t)
		assert.Equal(t, 3+i, task.Index)
		assert.Equal(t, fmt.Sprintf("task %d", 3+i), string(task.Payload))
		next.send(t, task, nil)
	}
	assert.Len(t, collect(p), 3)
	assertEmpty(t, p)
}

// A task is lost, too, if it has left the ring, and its result is not there.
func TestWorkerDiesInItsTask(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1)
	h.recv(t)
	h.exit(3)
	assert.Equal(t, []string{fmt.Sprintf("lost 1.1 %d 3", h.pid), fmt.Sprintf("exited 0.0 %d 3 1", h.pid)}, collect(p))
	assertEmpty(t, p)
}

func TestWorkerDiesWithoutATask(t *testing.T) {
	p, counters := newPool(t)
	other := hire(t, p, 0)
	h := hire(t, p, 0)
	submit(t, p, 1)
	other.recv(t)
	h.exit(1)
	assert.Equal(t, []string{fmt.Sprintf("exited 0.1 %d 1 0", h.pid)}, collect(p), "it has not served")
	p.Exited(h.slot, 1)
	p.Exited(17, 1)
	p.Exited(-1, 1)
	assert.Empty(t, collect(p), "its exit is told once")
	assert.Zero(t, counters.lost.Load())
	assert.Equal(t, 1, p.Pending())
}

// The tasks of a dead worker go at once to another one.
func TestTasksOfADeadWorkerGoToAnother(t *testing.T) {
	p, _ := newPool(t)
	dying, other := hire(t, p, 0), hire(t, p, 0)
	submit(t, p, 1, 2)
	waiting := other.recv(t)
	assert.EqualValues(t, 2, waiting.Index)
	other.send(t, waiting, nil)
	tasks := other.awaits(t)
	dying.exit(-11)
	task := receive(t, tasks, "the dead worker's task")
	assert.EqualValues(t, 1, task.Index)
	other.send(t, task, nil)
	assert.ElementsMatch(t, []string{"result 1.2 ", "result 1.1 ", fmt.Sprintf("exited 0.0 %d -11 0", dying.pid)}, collect(p))
}

func TestLostTaskGivesItsExtentBack(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submitExtent(t, p, 1)
	task := h.recv(t)
	assert.Equal(t, ring.FlagExtent, task.Flags)
	assert.Equal(t, description, task.Payload)
	h.exit(-9)
	buffer := make([]byte, 128<<10)
	p.Collect(buffer)
	assert.Equal(t, ring.FlagExtent, binary.LittleEndian.Uint16(buffer[6:]))
	payload := buffer[ring.HeaderSize:][:binary.LittleEndian.Uint32(buffer)]
	assert.Regexp(t, fmt.Sprintf("^%s%d -9 0 \\d+\n$", description, h.pid), string(payload))
}

// An extent goes on with its task to the next worker.
func TestRequeuedTaskKeepsItsExtent(t *testing.T) {
	p, _ := newPool(t)
	hire(t, p, 0)
	submitExtent(t, p, 1)
	p.Exited(0, 1)
	h := hire(t, p, 0)
	task := h.recv(t)
	assert.Equal(t, ring.FlagExtent, task.Flags)
	assert.Equal(t, description, task.Payload)
	p.Terminate()
	assert.Contains(t, collect(p), "cancelled 2.1 "+string(description))
}

func TestMaxTasks(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	for i := range uint64(7) {
		submit(t, p, i)
	}
	for i := uint64(0); i < 7; {
		h := hire(t, p, 2)
		for range min(2, 7-i) {
			task := h.recv(t)
			assert.Equal(t, i, task.Index)
			h.send(t, task, nil)
			i++
		}
		collect(p)
		_, ok := h.Claim()
		require.False(t, ok, "it has had its tasks")
		h.exit(0)
		assert.Equal(t, []string{fmt.Sprintf("exited 0.0 %d 0 1", h.pid)}, collect(p))
	}
	assertEmpty(t, p)
}

// A task that is taken back does not count.
func TestMaxTasksOfTasksTakenBack(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	slow := hire(t, p, 3)
	submit(t, p, 1, 2, 3, 4)
	running := slow.recv(t)
	other := hire(t, p, 1)
	assert.EqualValues(t, 2, other.recv(t).Index, "what was submitted first, taken back")
	other.exit(-9)
	other = hire(t, p, 1)
	assert.EqualValues(t, 4, other.recv(t).Index, "the last one, taken back")
	submit(t, p, 5)
	slow.send(t, running, nil)
	assert.EqualValues(t, 3, slow.recv(t).Index)
	assert.EqualValues(t, 5, slow.recv(t).Index, "its third task")
	submit(t, p, 6)
	_, ok := slow.Claim()
	assert.False(t, ok)
}

func TestSlots(t *testing.T) {
	p, _ := newPool(t)
	for want := range 3 {
		slot, err := p.Slot()
		require.NoError(t, err)
		assert.Equal(t, want, slot)
	}
	p.Drop(1)
	p.Drop(-1)
	p.Drop(99)
	slot, err := p.Slot()
	require.NoError(t, err)
	assert.Equal(t, 1, slot, "a dropped slot is used again")
	for _, none := range []int{-1, 3} {
		require.Error(t, p.Add(none, 1, 0, deaf))
	}
	p.Drop(2)
	require.ErrorContains(t, p.Add(2, 1, 0, deaf), "slot 2 has not been prepared")
}

// impossible are things that no worker writes.
var impossible = map[string]func(h *hand){
	"a result of a task that it does not have": func(h *hand) {
		_ = h.TrySend(ring.Frame{Kind: ring.KindResult, Job: 77}, nil)
	},
	"a result of a kind that there is not": func(h *hand) {
		_ = h.TrySend(ring.Frame{Kind: ring.KindExited, Job: 1, Index: 1}, nil)
	},
	"a result's position": func(h *hand) {
		binary.LittleEndian.PutUint64(h.Memory[ring.OffResultTail:], 1<<50)
	},
	"a task's position": func(h *hand) {
		binary.LittleEndian.PutUint64(h.Memory[ring.OffTaskHead:], 1<<50)
	},
}

// A worker that breaks the protocol is killed once, and gets no more tasks. Its tasks are settled when it has ended.
func TestCondemnedWorker(t *testing.T) {
	for what, write := range impossible {
		t.Run(what, func(t *testing.T) {
			p, counters := newPool(t)
			p.believe(1)
			h := hire(t, p, 0)
			submit(t, p, 1, 2)
			_, ok := h.Claim()
			require.True(t, ok)
			write(h)
			for index := range uint64(5) {
				collect(p)
				submit(t, p, 3+index)
			}
			assert.EqualValues(t, 1, h.kills.Load())
			assert.Equal(t, 7, p.Pending())
			h.exit(-9)
			assert.EqualValues(t, 1, h.kills.Load())

			got := collect(p)
			assert.Contains(t, got, fmt.Sprintf("lost 1.1 %d -9", h.pid))
			assert.Equal(t, fmt.Sprintf("exited 0.0 %d -9 1", h.pid), got[len(got)-1])
			assert.EqualValues(t, 1, counters.lost.Load())
			next := hire(t, p, 0)
			for range 7 - (len(got) - 1) {
				next.send(t, next.recv(t), nil)
			}
			assert.Len(t, collect(p), 7-(len(got)-1))
			assertEmpty(t, p)
		})
	}
}

// A condemned worker is given nothing, and no task is read from its ring for other workers while it may still write
// there.
func TestCondemnedWorkerGetsNothing(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	broken := hire(t, p, 0)
	submit(t, p, 1, 2, 3)
	broken.recv(t)
	require.NoError(t, broken.TrySend(ring.Frame{Kind: ring.KindResult, Job: 77}, nil))
	collect(p)
	other := hire(t, p, 1)
	submit(t, p, 4, 5)
	assert.EqualValues(t, 4, other.recv(t).Index)
	p.mu.Lock()
	assert.Len(t, p.slots[broken.slot].flights, 3)
	assert.Equal(t, 1, p.queue.len())
	p.mu.Unlock()
	broken.exit(-9)
	other.exit(0)
	p.Terminate()
	assert.Len(t, collect(p), 5+2, "each task, and each exit, once")
}

func TestTerminatedPoolEndsWhatBreaksTheProtocol(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1)
	p.Terminate()
	binary.LittleEndian.PutUint64(h.Memory[ring.OffResultTail:], 4)
	assert.Equal(t, []string{"cancelled 1.1 "}, collect(p))
	assert.EqualValues(t, 1, h.kills.Load())
	h.exit(-9)
	assert.Equal(t, []string{fmt.Sprintf("exited 0.0 %d -9 0", h.pid)}, collect(p))
}
