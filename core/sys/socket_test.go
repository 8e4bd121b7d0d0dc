package sys

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pair makes a socket pair that is closed with the test.
func pair(t *testing.T) (a, b *FD) {
	t.Helper()
	a, b, err := Seqpacket("test")
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	})
	return a, b
}

func TestMessagesStayApartAndCarryDescriptors(t *testing.T) {
	a, b := pair(t)
	readable, err := AlwaysReadable("test")
	require.NoError(t, err)
	fds := make([]int, MaxPassed)
	for i := range fds {
		fds[i] = readable.Int()
	}
	require.NoError(t, Send(a, []byte("first"), fds, 0))
	require.NoError(t, Send(a, []byte("second"), nil, 0))
	require.Error(t, Send(a, []byte("too many"), append(fds, fds[0]), 0))
	require.NoError(t, readable.Close())

	buffer := make([]byte, 10)
	n, passed, err := Receive(b, buffer)
	require.NoError(t, err)
	assert.Equal(t, "first", string(buffer[:n]))
	assert.Len(t, passed, MaxPassed)
	for _, f := range passed {
		ok, err := Readable(f)
		require.NoError(t, err)
		assert.True(t, ok)
		require.NoError(t, f.Close())
	}
	n, passed, err = Receive(b, buffer)
	require.NoError(t, err)
	assert.Equal(t, "second", string(buffer[:n]))
	assert.Empty(t, passed)
}

func TestReceiveTruncated(t *testing.T) {
	a, b := pair(t)
	require.NoError(t, Send(a, []byte("too long"), nil, 0))
	n, _, err := Receive(b, make([]byte, 3))
	require.ErrorIs(t, err, ErrTruncated)
	assert.Equal(t, 3, n)
}

func TestReceiveWithoutRoomForADescriptor(t *testing.T) {
	a, b := pair(t)
	require.NoError(t, Send(a, []byte("x"), []int{a.Int()}, 0))
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}))
	n, passed, err := Receive(b, make([]byte, 8))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	require.ErrorIs(t, err, ErrTruncated)
	assert.Equal(t, 1, n)
	assert.Empty(t, passed)
}

func TestShutdownDeliversWhatHadArrived(t *testing.T) {
	a, b := pair(t)
	require.NoError(t, Send(a, []byte("last words"), nil, 0))
	Shutdown(b)
	buffer := make([]byte, 16)
	n, _, err := Receive(b, buffer)
	require.NoError(t, err)
	assert.Equal(t, "last words", string(buffer[:n]))
	n, _, err = Receive(b, buffer)
	require.NoError(t, err)
	assert.Zero(t, n)
	require.ErrorIs(t, Send(a, []byte("x"), nil, 0), unix.EPIPE)
}

func TestShutdownEndsAReceiveThatWaits(t *testing.T) {
	_, b := pair(t)
	done := make(chan int)
	go func() {
		n, _, _ := Receive(b, make([]byte, 8))
		done <- n
	}()
	Shutdown(b)
	assert.Zero(t, <-done)
}

func TestSendLosesPatience(t *testing.T) {
	a, _ := pair(t)
	var err error
	for err == nil {
		err = Send(a, []byte("never read"), nil, 5*time.Millisecond)
	}
	require.ErrorIs(t, err, unix.ETIMEDOUT)
}
