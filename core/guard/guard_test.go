package guard

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// panicking is a function as Python or C would call it.
func panicking(value any) (err error) {
	defer Recover("panicking", &err)
	panic(value)
}

// heal undoes the poisoning of a test, and gives back what was written to stderr meanwhile.
func heal(t *testing.T) (written func() string) {
	t.Helper()
	stderr := os.Stderr
	file, err := os.CreateTemp(t.TempDir(), "stderr")
	require.NoError(t, err)
	os.Stderr = file
	t.Cleanup(func() {
		os.Stderr = stderr
		poison.Store(nil)
		require.NoError(t, file.Close())
	})
	return func() string {
		text, err := os.ReadFile(file.Name())
		require.NoError(t, err)
		return string(text)
	}
}

func TestWithoutPanicNothingHappens(t *testing.T) {
	written := heal(t)
	call := func() (err error) {
		defer Recover("call", &err)
		return errors.New("its own")
	}
	require.EqualError(t, call(), "its own")
	require.NoError(t, Check())
	assert.Empty(t, written())
}

func TestPanicBecomesAnErrorAndPoisons(t *testing.T) {
	written := heal(t)
	err := panicking("the reason")
	require.ErrorIs(t, err, ErrPoisoned)
	assert.ErrorContains(t, err, "panic in panicking: the reason")
	assert.Equal(t, err, Check())
	assert.Contains(t, written(), "guard_test.go", "the stack is printed")
}

func TestRuntimeErrorIsCaughtToo(t *testing.T) {
	heal(t)
	var missing map[string]int
	call := func() (err error) {
		defer Recover("call", &err)
		missing["a"]++
		return nil
	}
	require.ErrorContains(t, call(), "assignment to entry in nil map")
}

func TestFirstPanicIsKept(t *testing.T) {
	written := heal(t)
	require.Error(t, panicking("first"))
	require.ErrorContains(t, panicking("second"), "first")
	assert.Equal(t, 1, strings.Count(written(), "goproc: panic"), "one stack only")
}

func TestGoroutineSurvivesItsPanic(t *testing.T) {
	heal(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer Goroutine("worker")
		panic(errors.New("the reason"))
	}()
	<-done
	require.ErrorContains(t, Check(), "panic in worker: the reason")
}

func ExampleRecover() {
	work := func() (err error) {
		defer Recover("work", &err)
		return Check()
	}
	if err := work(); err == nil {
		os.Stdout.WriteString("healthy\n")
	}
	// Output: healthy
}
