package trace

import (
	"fmt"
	"os"
	"testing"
)

func TestPrintf(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	stderr := os.Stderr
	os.Stderr = write
	defer func() { os.Stderr = stderr }()

	Printf("not told")
	Set(true)
	Printf("worker %d was %s", 7, "added")
	Set(false)
	Printf("not told")

	_ = write.Close()
	text := make([]byte, 200)
	n, _ := read.Read(text)
	if want := fmt.Sprintf("[DEBUG/engine of %d] worker 7 was added\n", os.Getpid()); string(text[:n]) != want {
		t.Errorf("%q was written, not %q", text[:n], want)
	}
	if On() {
		t.Error("tracing is still on")
	}
}
