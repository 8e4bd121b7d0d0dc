package sys

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestFDClosesOnce(t *testing.T) {
	read, write, err := Pipe("test pipe")
	require.NoError(t, err)
	number := write.Int()
	require.NoError(t, write.Close())
	assert.Equal(t, -1, write.Int())

	require.NoError(t, unix.Dup3(read.Int(), number, unix.O_CLOEXEC))
	require.NoError(t, write.Close(), "closing again does nothing to who has the number now")
	_, err = unix.FcntlInt(uintptr(number), unix.F_GETFD, 0)
	require.NoError(t, err)

	require.NoError(t, unix.Close(number))
	require.NoError(t, read.Close())
	var none *FD
	require.NoError(t, none.Close())
	assert.Equal(t, -1, none.Int())
}

func TestFDIsRegisteredWhileItIsOpen(t *testing.T) {
	f, err := AlwaysReadable("test")
	require.NoError(t, err)
	number := f.Int()
	assert.Contains(t, Open(), fmt.Sprintf("test (%d)", number))
	assert.True(t, slices.Contains(Register(), Listed{int32(number) + 1, Mark(number)}))
	mark := Mark(number)
	require.NoError(t, f.Close())
	assert.Empty(t, Open())
	assert.False(t, slices.Contains(Register(), Listed{int32(number) + 1, mark}))
}

func TestDescriptorThatTheProgramHasClosed(t *testing.T) {
	read, write, err := Pipe("test")
	require.NoError(t, err)
	require.True(t, read.Ours())
	number := read.Int()
	require.NoError(t, unix.Close(number))
	require.ErrorIs(t, read.Check(), unix.EBADF)
	other, err := unix.MemfdCreate("other", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	if other != number {
		require.NoError(t, unix.Dup3(other, number, unix.O_CLOEXEC))
		require.NoError(t, unix.Close(other))
	}
	assert.False(t, read.Ours(), "the number is another file's")
	require.NoError(t, read.Close())
	assert.NotZero(t, Mark(number), "which is not closed")
	require.NoError(t, unix.Close(number))
	require.NoError(t, write.Close())
	assert.Empty(t, Open())
}

// The runtime has the two descriptors of its network poller, and no others.
func TestDescriptorsOfTheRuntime(t *testing.T) {
	OpenRuntimePoller()
	kinds := map[string]int{}
	for _, listed := range Register() {
		if listed.FD != 0 {
			kinds[readLink(fmt.Sprintf("/proc/self/fd/%d", listed.FD-1))]++
			assert.GreaterOrEqual(t, int(listed.FD-1), aboveUsualLoops)
		}
	}
	assert.Equal(t, map[string]int{"anon_inode:[eventpoll]": 1, "anon_inode:[eventfd]": 1}, kinds)
}

func TestRegisterUsesItsSlotsAgain(t *testing.T) {
	for range RegisterSize + 10 {
		slot := register.add(1<<20, 1, "nothing real")
		require.GreaterOrEqual(t, slot, 0)
		register.remove(slot)
	}
	assert.Empty(t, Open())
}

func TestRegisterCanBeFull(t *testing.T) {
	var slots []int
	for {
		slot := register.add(1<<20, 1, "nothing real")
		if slot < 0 {
			break
		}
		slots = append(slots, slot)
	}
	assert.GreaterOrEqual(t, len(slots), RegisterSize-2, "all but the runtime's two")
	f, err := AlwaysReadable("beyond the register")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	for _, slot := range slots {
		register.remove(slot)
	}
	assert.Empty(t, Open())
}

func TestNothingIsOpenedAsAStandardStream(t *testing.T) {
	saved, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 50)
	require.NoError(t, err)
	require.NoError(t, unix.Close(0))
	read, write, pipeErr := Pipe("test")
	require.NoError(t, unix.Dup3(saved, 0, 0))
	require.NoError(t, unix.Close(saved))
	require.NoError(t, pipeErr)
	assert.Greater(t, read.Int(), 2)
	flags, err := unix.FcntlInt(uintptr(read.Int()), unix.F_GETFD, 0)
	require.NoError(t, err)
	assert.Equal(t, unix.FD_CLOEXEC, flags)
	require.NoError(t, read.Close())
	require.NoError(t, write.Close())
}

func ExampleFD() {
	read, write, err := Pipe("greeting")
	if err != nil {
		panic(err)
	}
	_, _ = unix.Write(write.Int(), []byte("hello\n"))
	_ = write.Close()
	buffer := make([]byte, 16)
	n, _ := unix.Read(read.Int(), buffer)
	_, _ = os.Stdout.Write(buffer[:n])
	_ = read.Close()
	// Output: hello
}

// As early as the engine does it: package testing uses timers.
func init() { OpenRuntimePoller() }
