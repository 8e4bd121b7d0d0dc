package sys

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestPoller(t *testing.T) {
	p, err := NewPoller("test")
	require.NoError(t, err)
	f, err := AlwaysReadable("test")
	require.NoError(t, err)

	const id = 5<<32 | 1<<31 | 7 // ids keep all their bits
	require.NoError(t, p.Add(f, id))
	for range 2 {
		ids, err := p.Wait(nil, time.Minute)
		require.NoError(t, err)
		assert.Equal(t, []int{id}, ids)
	}
	require.NoError(t, p.Remove(f))
	p.Wake()
	p.Wake()
	ids, err := p.Wait([]int{1}, time.Minute)
	require.NoError(t, err)
	assert.Equal(t, []int{1}, ids, "woken, and nothing to report")

	require.Error(t, p.Remove(f))
	require.NoError(t, f.Close())
	require.Error(t, p.Add(f, 1))
	woken := make(chan error)
	go func() {
		_, err := p.Wait(nil, time.Minute)
		woken <- err
	}()
	p.Wake()
	require.NoError(t, <-woken)
	require.NoError(t, p.Close())
}

func TestPollerWhoseDescriptorsTheProgramCloses(t *testing.T) {
	p, err := NewPoller("test")
	require.NoError(t, err)
	require.True(t, p.Intact())
	stranger, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(stranger, p.Int(), unix.O_CLOEXEC))
	assert.False(t, p.Intact(), "the number is another epoll's")
	_, err = p.Wait(nil, 0)
	require.ErrorIs(t, err, ErrLost)
	number := p.Int()
	require.NoError(t, p.Close())
	require.NoError(t, unix.Close(number), "and is left to it")
	require.NoError(t, unix.Close(stranger))
	assert.Empty(t, Open())
}

func TestBlindPoller(t *testing.T) {
	p := NewBlindPoller()
	ids, err := p.Wait(nil, time.Millisecond)
	require.NoError(t, err)
	assert.Empty(t, ids)
	p.Wake()
	_, err = p.Wait(nil, time.Hour)
	require.NoError(t, err)
	f, err := AlwaysReadable("test")
	require.NoError(t, err)
	require.ErrorIs(t, p.Add(f, 1), unix.ENOSYS)
	require.NoError(t, f.Close())
	require.NoError(t, p.Close())
}
