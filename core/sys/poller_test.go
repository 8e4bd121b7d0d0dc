package sys

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPoller(t *testing.T) {
	p, err := NewPoller("test")
	require.NoError(t, err)
	f, err := AlwaysReadable("test")
	require.NoError(t, err)

	const id = 5<<32 | 1<<31 | 7 // ids keep all their bits
	require.NoError(t, p.Add(f, id))
	for range 2 {
		ids, err := p.Wait(nil)
		require.NoError(t, err)
		assert.Equal(t, []int{id}, ids)
	}
	require.NoError(t, p.Remove(f))
	p.Wake()
	p.Wake()
	ids, err := p.Wait([]int{1})
	require.NoError(t, err)
	assert.Equal(t, []int{1}, ids, "woken, and nothing to report")

	require.Error(t, p.Remove(f))
	require.NoError(t, f.Close())
	require.Error(t, p.Add(f, 1))
	woken := make(chan error)
	go func() {
		_, err := p.Wait(nil)
		woken <- err
	}()
	p.Wake()
	require.NoError(t, <-woken)
	require.NoError(t, p.Close())
}
