package forkserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// packet makes a packet as the server does.
func packet(kind, id uint32, pid, value int32) []byte {
	p := binary.LittleEndian.AppendUint32(nil, kind)
	p = binary.LittleEndian.AppendUint32(p, id)
	p = binary.LittleEndian.AppendUint32(p, uint32(pid))
	return binary.LittleEndian.AppendUint32(p, uint32(value))
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		packet []byte
		want   Message
	}{
		{packet(1, 7, 123, 0), Message{Kind: Started, ID: 7, PID: 123}},
		{packet(2, 7, 0, 0), Message{Kind: Pong, ID: 7}},
		{packet(3, 7, 123, 255), Message{Kind: Exited, ID: 7, PID: 123, Status: 255}},
		{packet(3, 7, 123, -9), Message{Kind: Exited, ID: 7, PID: 123, Status: -9}},
		{packet(4, 7, 0, 11), Message{Kind: Failed, ID: 7, Errno: 11}},
		{packet(5, 0, 123, 0), Message{Kind: Standby, PID: 123}},
		{packet(6, 0, 123, 0), Message{Kind: Gone, PID: 123}},
	} {
		got, err := Decode(c.packet)
		require.NoError(t, err)
		assert.Equal(t, c.want, got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, p := range [][]byte{
		nil,
		packet(1, 7, 123, 0)[:15],
		append(packet(1, 7, 123, 0), 0),
		packet(0, 7, 123, 0),
		packet(7, 7, 123, 0),
		packet(5, 7, 0, 0),
		packet(6, 7, -1, 0),
		packet(1, 7, 0, 0),
		packet(1, 7, -1, 0),
		packet(3, 7, 123, 256),
		packet(3, 7, 123, -65),
		packet(4, 7, 0, 0),
		packet(4, 7, 0, -11),
		packet(4, 7, 0, 4096),
	} {
		_, err := Decode(p)
		require.ErrorIs(t, err, errProtocol, "%v", p)
	}
}

// FuzzDecode checks that Decode never panics, and that what it accepts is what the server sends.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(packet(1, 7, 123, 0))
	f.Add(packet(3, 7, 123, -9))
	f.Add(packet(4, 1<<31, -1, 11))
	f.Add(packet(5, 0, 123, 0))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := Decode(p)
		if err != nil {
			if !errors.Is(err, errProtocol) || m != (Message{}) {
				t.Fatal(m, err)
			}
			return
		}
		if len(p) != messageSize || m.ID < 0 || m.Kind < Started || m.Kind > Gone ||
			m.PID <= 0 && (m.Kind == Started || m.Kind >= Standby) || m.Kind == Failed && m.Errno <= 0 ||
			m.Status < -maxSignal || m.Status > 255 {
			t.Fatal(m)
		}
	})
}

func ExampleDecode() {
	m, err := Decode([]byte{3, 0, 0, 0, 7, 0, 0, 0, 123, 0, 0, 0, 0xf7, 0xff, 0xff, 0xff})
	fmt.Printf("%+v %v\n", m, err)
	// Output: {Kind:3 ID:7 PID:123 Status:-9 Errno:0} <nil>
}
