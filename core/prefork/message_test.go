package prefork

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// packet makes a packet as the server does.
func packet(kind uint32, pid, value int32) []byte {
	p := binary.LittleEndian.AppendUint32(nil, kind)
	p = binary.LittleEndian.AppendUint32(p, uint32(pid))
	return binary.LittleEndian.AppendUint32(p, uint32(value))
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		packet []byte
		want   Message
	}{
		{packet(1, 123, 0), Message{Kind: Standby, PID: 123}},
		{packet(2, 0, 11), Message{Kind: Failed, Errno: 11}},
		{packet(3, 123, 255), Message{Kind: Exited, PID: 123, Status: 255}},
		{packet(3, 123, -9), Message{Kind: Exited, PID: 123, Status: -9}},
		{packet(4, 0, 7), Message{Kind: Pong, ID: 7}},
		{packet(5, 123, 0), Message{Kind: Forked, PID: 123}},
		{packet(5, 123, 1), Message{Kind: Forked, PID: 123, Ahead: true}},
	} {
		got, err := Decode(c.packet)
		require.NoError(t, err)
		assert.Equal(t, c.want, got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, p := range [][]byte{
		nil,
		packet(1, 123, 0)[:11],
		append(packet(1, 123, 0), 0),
		packet(0, 123, 0),
		packet(6, 123, 0),
		packet(1, 0, 0),
		packet(1, -1, 0),
		packet(2, 0, 0),
		packet(2, 0, -11),
		packet(2, 0, 4096),
		packet(3, 0, 1),
		packet(3, 123, 256),
		packet(3, 123, -65),
		packet(5, 0, 0),
		packet(5, 123, 2),
	} {
		_, err := Decode(p)
		require.ErrorIs(t, err, errProtocol, "%v", p)
	}
}

func TestOrder(t *testing.T) {
	assert.Equal(t, []byte{1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x80, 5, 0, 0, 0}, encodeOrder([]int{5}, true, 1<<63|2))
}

// FuzzDecode checks that Decode never panics, and that what it accepts is what the server sends.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(packet(1, 123, 0))
	f.Add(packet(2, -1, 11))
	f.Add(packet(3, 123, -9))
	f.Add(packet(4, 0, 7))
	f.Add(packet(5, 123, 1))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := Decode(p)
		if err != nil {
			if !errors.Is(err, errProtocol) || m != (Message{}) {
				t.Fatal(m, err)
			}
			return
		}
		if len(p) != messageSize || m.Kind < Standby || m.Kind > Forked ||
			(m.PID > 0) != (m.Kind == Standby || m.Kind == Exited || m.Kind == Forked) || (m.Errno > 0) != (m.Kind == Failed) ||
			m.Status < -maxSignal || m.Status > 255 {
			t.Fatal(m)
		}
	})
}

func ExampleDecode() {
	m, err := Decode([]byte{3, 0, 0, 0, 123, 0, 0, 0, 0xf7, 0xff, 0xff, 0xff})
	fmt.Printf("%+v %v\n", m, err)
	// Output: {Kind:3 PID:123 Status:-9 Errno:0 ID:0 Ahead:false} <nil>
}
