package capi

import (
	"encoding/binary"
	"testing"

	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/ring"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// C and Go state the layout separately; here they are compared.
func TestLayout(t *testing.T) {
	want := layoutOfC()
	for name, value := range map[string]int64{
		"page size":   ring.PageSize,
		"ring size":   ring.RingSize,
		"slot size":   ring.SlotSize,
		"slots start": ring.SlotsStart,
		"max inline":  ring.MaxInline,
		"header size": ring.HeaderSize,
		"extent size": ring.ExtentSize,
		"memory size": ring.MemorySize,

		"waiting collector": ring.WaitingCollector,
		"waiting feed":      ring.WaitingFeed,
		"waiting drain":     ring.WaitingDrain,
		"waiting watch":     ring.WaitingWatch,

		"kind pad":       int64(ring.KindPad),
		"kind task":      int64(ring.KindTask),
		"kind result":    int64(ring.KindResult),
		"kind failure":   int64(ring.KindFailure),
		"kind lost":      int64(ring.KindLost),
		"kind cancelled": int64(ring.KindCancelled),
		"kind timeout":   int64(ring.KindTimeout),
		"kind exited":    int64(ring.KindExited),
		"kind retried":   int64(ring.KindRetried),
		"kind memory":    int64(ring.KindMemory),
		"kind part":      int64(ring.KindPart),
		"parts ahead":    ring.PartsAhead,
		"flag extent":    int64(ring.FlagExtent),
		"flag keep":      int64(ring.FlagKeep),
		"no job":         -1, // ring.NoJob, as a signed number

		"waiting":       ring.OffWaiting,
		"doorbell":      ring.OffDoorbell,
		"pump":          ring.OffPump,
		"spin":          ring.OffSpin,
		"watch bell":    ring.OffWatch,
		"task tail":     ring.OffTaskTail,
		"result head":   ring.OffResultHead,
		"stop":          ring.OffStop,
		"parts taken":   ring.OffPartsTaken,
		"task head":     ring.OffTaskHead,
		"result tail":   ring.OffResultTail,
		"sleeping":      ring.OffSleeping,
		"bell":          ring.OffBell,
		"current job":   ring.OffCurrentJob,
		"current index": ring.OffCurrentIdx,
		"started":       ring.OffStarted,
		"base":          ring.OffBase,
	} {
		assert.Equal(t, want[name], value, name)
		delete(want, name)
	}
	for name, value := range process.SeatsLayout() {
		assert.Equal(t, want[name], value, name)
		delete(want, name)
	}
	assert.Greater(t, want["extents start"], int64(ring.SlotsStart+1000*ring.SlotSize), "room for the slots")
	delete(want, "extents start")
	// The tests below compare what package ring does not export, by what it does.
	compared := []string{"sleep tasks", "sleep room", "sleep taken", "claim shift"}
	for _, field := range []string{"size", "kind", "flags", "job", "index", "claim", "busy"} {
		compared = append(compared, "frame's "+field)
	}
	for _, name := range compared {
		assert.Contains(t, want, name)
		delete(want, name)
	}
	assert.Empty(t, want, "compared with nothing")

	for size := range 100 {
		require.Equal(t, frameSpaceOfC(size), ring.Space(size))
	}
	require.Equal(t, frameSpaceOfC(ring.MaxInline), ring.Space(ring.MaxInline))
}

// A frame, the claim word and the words about sleeping lie where C looks for them, and mean the same.
func TestFrameAsCSeesIt(t *testing.T) {
	c := layoutOfC()
	memory, err := ring.NewMemory()
	require.NoError(t, err)
	defer memory.Close()
	slot, err := memory.Slot(1)
	require.NoError(t, err)
	defer slot.Close()
	mem, err := unix.Mmap(memory.FD().Int(), c["slots start"]+c["slot size"], int(c["slot size"]), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(mem)) }()
	le := binary.LittleEndian

	const job, index = 0x0102030405060708, 0x1112131415161718
	position, ok := slot.Push(ring.Frame{Kind: ring.KindTask, Flags: ring.FlagExtent, Job: job, Index: index, First: 2, End: 9}, []byte("payload"))
	require.True(t, ok)
	slot.Publish()
	assert.Equal(t, ring.Space(7), le.Uint64(mem[c["task tail"]:]))
	frame := mem[c["page size"]:]
	assert.EqualValues(t, 7, le.Uint32(frame[c["frame's size"]:]))
	assert.EqualValues(t, c["kind task"], le.Uint16(frame[c["frame's kind"]:]))
	assert.EqualValues(t, c["flag extent"], le.Uint16(frame[c["frame's flags"]:]))
	assert.EqualValues(t, job, le.Uint64(frame[c["frame's job"]:]))
	assert.EqualValues(t, index, le.Uint64(frame[c["frame's index"]:]))
	assert.Equal(t, "payload", string(frame[c["header size"]:][:7]))

	claim := frame[c["frame's claim"]:]
	assert.EqualValues(t, 2|9<<c["claim shift"], le.Uint32(claim))
	le.PutUint32(claim, le.Uint32(claim)+1) // the worker begins one
	next, err := slot.Next(position, 9)
	require.NoError(t, err)
	assert.EqualValues(t, 3, next)
	_, _, ok = slot.TakeBack(position, 7, 9, 4)
	require.True(t, ok)
	assert.EqualValues(t, 3|5<<c["claim shift"], le.Uint32(claim))

	sleeping := mem[c["sleeping"]:]
	le.PutUint32(sleeping, uint32(c["sleep tasks"]))
	assert.True(t, slot.Sleeping())
	le.PutUint32(sleeping, uint32(c["sleep room"]))
	assert.False(t, slot.Sleeping())
	slot.Release() // which makes room
	assert.Zero(t, le.Uint32(sleeping))
	assert.EqualValues(t, 1, le.Uint32(mem[c["bell"]:]))

	le.PutUint32(sleeping, uint32(c["sleep taken"]))
	assert.True(t, slot.AwaitsTaken())
	slot.ShowTaken(7)
	assert.Zero(t, le.Uint32(sleeping))
	assert.EqualValues(t, 2, le.Uint32(mem[c["bell"]:]))
	assert.EqualValues(t, 7, le.Uint64(mem[c["parts taken"]:]))

	result := mem[c["page size"]+c["ring size"]:]
	le.PutUint32(result[c["frame's size"]:], 6)
	le.PutUint16(result[c["frame's kind"]:], uint16(c["kind failure"]))
	le.PutUint64(result[c["frame's job"]:], job)
	le.PutUint64(result[c["frame's index"]:], index)
	le.PutUint32(result[c["frame's busy"]:], 99)
	le.PutUint32(result[c["frame's claim"]:], 5)
	copy(result[c["header size"]:], "result")
	le.PutUint64(mem[c["result tail"]:], frameSpaceOfC(6))
	f, payload, ok, err := slot.Result()
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, ring.Frame{Kind: ring.KindFailure, Job: job, Index: index, Busy: 99, End: 5}, f)
	assert.Equal(t, "result", string(payload))
}
