package pool

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// lookNow has the pump look over the workers as if it were time to.
func (p *Pool) lookNow() {
	p.mu.Lock()
	p.lookAt = 1
	p.mu.Unlock()
	p.pumpOnce()
}

// page maps a page of the pool's memory, as a worker can.
func page(t *testing.T, p *Pool, offset int64) []byte {
	mem, err := unix.Mmap(memoryOf(p), offset, ring.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	return mem
}

func (h *hand) page(t *testing.T) []byte {
	return page(t, h.pool, ring.SlotsStart+int64(h.slot)*ring.SlotSize)
}

func scribble(page []byte, offset int, value uint64) {
	binary.LittleEndian.PutUint64(page[offset:], value)
}

// assertLost says that the worker has been killed, and its only task is lost with it.
func assertLost(t *testing.T, h *hand) {
	t.Helper()
	require.EqualValues(t, 1, h.kills.Load())
	h.exit(-9)
	assert.Equal(t, []string{fmt.Sprintf("lost 1.1 %d -9", h.pid), fmt.Sprintf("exited 0.%d %d -9 1", h.slot, h.pid)}, collect(h.pool))
}

func TestWordsOfTheParentOverwritten(t *testing.T) {
	for name, offset := range map[string]int{
		"task tail": ring.OffTaskTail, "result head": ring.OffResultHead, "stop": ring.OffStop, "sleeping": ring.OffSleeping,
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := newPool(t)
			h := hire(t, p, 0)
			submit(t, p, 1)
			h.recv(t)
			scribble(h.page(t), offset, 1<<40+7)
			p.lookNow()
			assertLost(t, h)
		})
	}
}

func TestResultDestroyed(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1)
	task := h.recv(t)
	func() {
		p.mu.Lock() // so that the pump does not take the result
		defer p.mu.Unlock()
		h.send(t, task, nil)
		scribble(h.page(t), ring.OffResultTail, 0)
	}()
	h.awaits(t)
	p.lookNow()
	assertLost(t, h)
}

func TestTasksThatRunAreLeftAlone(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1, 2)
	task := h.recv(t)
	for range 2 * mostDoubts {
		p.lookNow()
	}
	h.send(t, task, nil)
	h.send(t, h.recv(t), nil)
	p.lookNow()
	assert.Equal(t, []string{"result 1.1 ", "result 1.2 "}, collect(p))
	assert.Zero(t, h.kills.Load())
}

func TestWorkersThatComeUpAreLeftAlone(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1)
	for range 2 * mostDoubts {
		p.lookNow()
	}
	h.send(t, h.recv(t), nil)
	assert.Equal(t, []string{"result 1.1 "}, collect(p))
	assert.Zero(t, h.kills.Load())
}

func TestSleeperThatDoesNotSayThatItSleeps(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	tasks := h.awaits(t)
	scribble(h.page(t), ring.OffSleeping, uint64(h.Bell())<<32)
	submit(t, p, 1)
	p.lookNow()
	assert.EqualValues(t, 1, receive(t, tasks, "the task").Index)
	assert.Zero(t, h.kills.Load())
}

func TestSleeperThatDoesNotSeeWhatItSleepsFor(t *testing.T) {
	for name, sleep := range map[string]uint64{"its task": 1, "room for its result": 2} {
		t.Run(name, func(t *testing.T) {
			p, _ := newPool(t)
			h := hire(t, p, 0)
			submit(t, p, 1)
			if sleep == 2 {
				h.recv(t)
			}
			for range mostDoubts {
				assert.Zero(t, h.kills.Load())
				scribble(h.page(t), ring.OffSleeping, sleep)
				p.lookNow()
			}
			require.EqualValues(t, 1, h.kills.Load())
		})
	}
}

func TestCollectorThatDoesNotSayThatItSleeps(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	c, err := ringtest.NewCollector(memoryOf(p))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	submit(t, p, 1)
	collected := make(chan []ringtest.Completion, 1)
	go func() { collected <- c.Collect(p.Collect, patience) }()
	require.Eventually(t, c.Waiting, patience, 1000)
	page(t, p, 0)[ring.OffWaiting] = 0
	h.send(t, h.recv(t), nil)
	p.lookNow()
	assert.Len(t, receive(t, collected, "the result"), 1)
}

func TestStoppedWorkerThatSleepsOn(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1)
	h.send(t, h.recv(t), nil)
	h.awaits(t)
	p.Close()
	assert.Len(t, collect(p), 1)
	require.Eventually(t, h.Stopped, patience, 1000)
	p.lookNow()
	scribble(h.page(t), ring.OffStop, 0)
	p.lookNow()
	assert.EqualValues(t, 1, h.kills.Load())
}

// The pump looks over the workers by itself while there are tasks.
func TestWorkersAreLookedOver(t *testing.T) {
	p, _ := newPumpedPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1)
	h.recv(t)
	scribble(h.page(t), ring.OffTaskTail, 8)
	require.Eventually(t, func() bool { return h.kills.Load() == 1 }, patience, 1000)
	assertLost(t, h)
}

// Tasks that wait behind slow ones are begun before tasks that were submitted later, although these are queued.
func TestTasksBehindSlowOnesAreNotOvertaken(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1e6) // a window of one task
	slow, other := hire(t, p, 0), hire(t, p, 0)
	submit(t, p, 0, 1)
	first, second := slow.recv(t), other.recv(t)
	submit(t, p, 2, 3, 4, 5)
	assert.Equal(t, 2, p.queued())
	p.lookNow()
	assert.Equal(t, 4, p.queued()) // both have run for long

	task := second
	for index := uint64(2); index < 6; index++ {
		other.send(t, task, nil)
		collect(p)
		task = other.recv(t)
		assert.Equal(t, index, task.Index)
	}
	other.send(t, task, nil)
	slow.send(t, first, nil)
	collect(p)
	assertEmpty(t, p)
	submit(t, p, 6, 7, 8, 9) // and then both are given tasks as ever, one to wait behind another
	slow.recv(t)
	other.recv(t)
	collect(p)
	assert.Equal(t, 0, p.queued())
}

// A worker alone keeps its tasks.
func TestTasksBehindASlowOneOfTheOnlyWorker(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1e6)
	only := hire(t, p, 0)
	submit(t, p, 0, 1, 2)
	task := only.recv(t)
	p.lookNow()
	assert.Equal(t, 1, p.queued())
	for index := range uint64(3) {
		assert.Equal(t, index, task.Index)
		only.send(t, task, nil)
		collect(p)
		if index < 2 {
			task = only.recv(t)
		}
	}
	assertEmpty(t, p)
}

// A new worker begins the task that was submitted first, even if this task waits behind another worker's task.
func TestNewWorkerBeginsWhatWasSubmittedFirst(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1e6)
	busy := hire(t, p, 0)
	submit(t, p, 0, 1, 2, 3)
	running := busy.recv(t)
	collect(p)
	assert.Equal(t, 2, p.queued())
	var done []uint64
	added := hire(t, p, 0)
	for range 3 {
		task := added.recv(t)
		done = append(done, task.Index)
		added.send(t, task, nil)
		collect(p)
	}
	assert.Equal(t, uint64(1), done[0])
	busy.send(t, running, nil)
	collect(p)
	assertEmpty(t, p)
}
