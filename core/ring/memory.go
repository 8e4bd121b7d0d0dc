package ring

import (
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/goproc/goproc/core/sys"
)

// Memory is the shared memory of one pool.
type Memory struct {
	shm     *sys.SharedMemory
	control []byte
}

// NewMemory makes a pool's memory.
func NewMemory() (*Memory, error) {
	shm, err := sys.NewSharedMemory("pool memory", MemorySize)
	if err != nil {
		return nil, err
	}
	control, err := shm.Map(0, PageSize)
	if err != nil {
		_ = shm.Close()
		return nil, err
	}
	return &Memory{shm: shm, control: control}, nil
}

// FD is the memory's descriptor, which workers inherit.
func (m *Memory) FD() *sys.FD { return m.shm.FD() }

// SetSpin tells all ends how many nanoseconds to spin before they sleep.
func (m *Memory) SetSpin(ns uint32) { atomic.StoreUint32(word32(m.control, OffSpin), ns) }

// Arm sets and clears bits of the waiting word, and returns what it was before.
func (m *Memory) Arm(set, clear uint32) uint32 {
	word := word32(m.control, OffWaiting)
	for {
		old := atomic.LoadUint32(word)
		next := old&^clear | set
		if next == old || atomic.CompareAndSwapUint32(word, old, next) {
			return old
		}
	}
}

// Ring wakes the collector, if it sleeps. Otherwise it wakes the pool's own thread, if that watches.
func (m *Memory) Ring() {
	doorbell := word32(m.control, OffDoorbell)
	atomic.AddUint32(doorbell, 1)
	if m.disarm(WaitingCollector) {
		// The collector may be about to sleep, and then FutexWake does not reach it. So the word that it will sleep on
		// must change: then it does not fall asleep. Nobody else will wake it, because its bit is cleared.
		atomic.AddUint32(doorbell, 1)
		sys.FutexWake(doorbell)
	} else if m.disarm(WaitingWatch) {
		watch := word32(m.control, OffWatch)
		atomic.AddUint32(watch, 1)
		sys.FutexWake(watch)
	}
}

// Rouse wakes the collector and the pool's own thread, even if the waiting word does not say that they sleep.
func (m *Memory) Rouse() {
	for _, offset := range []int{OffDoorbell, OffWatch} {
		bell := word32(m.control, offset)
		atomic.AddUint32(bell, 1)
		sys.FutexWake(bell)
	}
}

// disarm clears the bit of the waiting word. It returns whether this call has cleared it: false if the bit was not set,
// or another process was faster.
func (m *Memory) disarm(bit uint32) bool {
	return atomic.LoadUint32(word32(m.control, OffWaiting))&bit != 0 && m.Arm(0, bit)&bit != 0
}

// Calls is the word that changes whenever the pump is called.
func (m *Memory) Calls() uint32 { return atomic.LoadUint32(word32(m.control, OffPump)) }

// CallPump wakes the pump, or keeps it from sleeping.
func (m *Memory) CallPump() {
	word := word32(m.control, OffPump)
	atomic.AddUint32(word, 1)
	sys.FutexWake(word)
}

// AwaitCall sleeps until the pump has been called since Calls returned seen, or until patience is over. A negative
// patience is for ever.
func (m *Memory) AwaitCall(seen uint32, patience time.Duration) {
	sys.FutexWait(word32(m.control, OffPump), seen, patience)
}

// Slot maps the slot of the given number, counted from 0, and clears it.
func (m *Memory) Slot(number int) (*Slot, error) {
	mem, err := m.shm.Map(SlotsStart+int64(number)*SlotSize, SlotSize)
	if err != nil {
		return nil, err
	}
	s := &Slot{memory: m, mem: mem}
	s.tasks, s.results = mem[PageSize:PageSize+RingSize], mem[PageSize+RingSize:]
	s.Clear()
	return s, nil
}

// Close unmaps and closes the memory. Slots must have been closed before.
func (m *Memory) Close() {
	m.shm.Unmap(m.control)
	m.control = nil
	_ = m.shm.Close()
}

func word32(mem []byte, off int) *uint32 { return (*uint32)(unsafe.Pointer(&mem[off])) }
func word64(mem []byte, off int) *uint64 { return (*uint64)(unsafe.Pointer(&mem[off])) }
func word16(mem []byte, off int) *uint16 { return (*uint16)(unsafe.Pointer(&mem[off])) }
