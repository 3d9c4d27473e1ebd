package harness

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const story = `target testdata/services/shop
seed 2
env bugs=double-charge postgres=local@15 redis=local@7.0
o1: a create_order body.items.0.sku="s1" body.items.0.qty=2 header.Idempotency-Key="k1"
+ lag = net/latency link=db delay=80ms jitter=20ms
+ cut = op/drop_after link=db on=COMMIT nth=1 of=p1 when=inflight:pay>=2 at=10ms for=1s
+ net/cut link=db when="calls:POST /pay"
p1: a pay path.order={{o1.id}} header.Idempotency-Key="p1" &
b pay path.order={{o1.id}} note="for {{o1.id}}" *20
b list *1m30s
- lag
wait 300ms
reset
a raw body!="{\"a\":\x00" deep={"a":[1,2,{"b":null}]} body."a.b".0=true
`

func TestCaseFileReadsAsItIsWritten(t *testing.T) {
	t.Parallel()
	c, err := ParseCase([]byte(story))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(story, c.String()); diff != "" {
		t.Errorf("case file (-want +got):\n%s", diff)
	}
	if got, want := len(c.Turns()), 10; got != want {
		t.Errorf("turns: got %d, want %d", got, want)
	}
	if got, want := c.Calls(), 24; got != want {
		t.Errorf("calls: got %d, want %d", got, want)
	}
}

func TestCaseFileErrorsSayWhereAndWhat(t *testing.T) {
	t.Parallel()
	head := "target x\n"
	for _, tt := range []struct{ name, file, want string }{
		{"empty", "", "1:1: no target line"},
		{"no target", "a get\n", "1:1: the first line must be"},
		{"cut within a line", head + "a get path.id=1", "2:16: the file ends within a line"},
		{"cut within a group", head + "a get &\n", "3:1: the file ends within a group"},
		{"cut within a reference", head + "a get path.id={{o1\n", "2:15: expected a reference"},
		{"open quote", head + "a get q=\"x\n", "2:9: unclosed or broken quote"},
		{"not JSON", head + "a get q=x\n", "2:9: expected a JSON value"},
		{"second seed", head + "seed 1\nseed 2\n", "3:6: a second seed"},
		{"seed", head + "seed -1\n", "2:6: the seed is not a number"},
		{"seed within the steps", head + "a get\nseed 1\n", "3:1: \"seed\" cannot name a lane"},
		{"heal of nothing", head + "- lag\n", "2:3: no fault before this line has the label lag"},
		{"healed twice", head + "+ l = net/x\n- l\n- l\n", "4:3: l is healed twice"},
		{"label twice", head + "o: a get\no: a get\n", "3:1: the label o is used twice"},
		{"repeat", head + "a get *0\n", "2:7: a repeat is"},
		{"argument twice", head + "a get q=1 q=2\n", "2:11: q is given twice"},
		{"for", head + "+ net/x for=fast\n", "2:9: for= takes a duration"},
		{"when", head + "+ net/x when=y\n", "2:9: a trigger is calls, inflight or bytes"},
		{"when never", head + "+ net/x when=calls>=0\n", "2:9: a trigger waits for a number from 1, not for 0"},
		{"when for ever", head + "+ net/x when=calls>=99999999999999999999\n", "2:9: a trigger waits for a number from 1"},
		{"when twice", head + "+ net/x when=calls:x>=3>=1\n", "2:9: a trigger is calls, inflight or bytes"},
		{"bytes of nothing", head + "+ net/x when=bytes>=4\n", "2:9: bytes of which link?"},
		{"repeat for long", head + "a get *11m\n", "2:7: a repeat is *1 to *10000, or a duration up to 10m0s"},
		{"wait", head + "wait long\n", "2:6: a wait takes a duration from 0 to 10m0s"},
		{"wait for nothing", head + "wait\n", "2:5: expected a word"},
		{"behind a reset", head + "reset x\n", "2:7: unexpected"},
		{"CRLF", head + "wait long\r\n", "2:6: a wait takes a duration from 0 to 10m0s, such as 200ms\n\twait long\n"},
		{"reset in a group", head + "a get &\nreset\n", "3:6: a reset cannot be part of a group"},
		{"behind the ampersand", head + "a get & b get\n", "2:9: unexpected"},
		{"not UTF-8", head + "a get q=\"\xff\"\n", "2:1: the line is not UTF-8"},
	} {
		_, err := ParseCase([]byte(tt.file))
		var bad *SyntaxError
		if !errors.As(err, &bad) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestBlanksAndCommentsChangeNoCase(t *testing.T) {
	t.Parallel()
	want, err := ParseCase([]byte("target x\nseed 7\nenv a=b\nreset\nwait 1s\na get\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"blanks":   "target x \nseed 7 \nenv a=b \nreset \nwait 1s \na get \n",
		"tabs":     "target\tx\t\nseed\t7\nenv\ta=b\nreset\t\nwait\t1s\na\tget\n",
		"comments": "target x # x\nseed 7 # 7\nenv a=b # b\nreset # now\nwait 1s # long\na get # it\n",
		"CRLF":     "target x\r\nseed 7\r\nenv a=b\r\n\r\nreset\r\nwait 1s\r\na get\r\n",
	} {
		got, err := ParseCase([]byte(file))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestJoinKeepsReferencesApart(t *testing.T) {
	t.Parallel()
	c, err := ParseCase([]byte("target x\no: a new\n+ f = net/x\na get id={{o.id}} &\nb get q=\"n{{o.id}}\"\n- f\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := `target x
seed 0
c0_o: a new
+ c0_f = net/x
a get id={{c0_o.id}} &
b get q="n{{c0_o.id}}"
- c0_f
reset
c1_o: a new
+ c1_f = net/x
a get id={{c1_o.id}} &
b get q="n{{c1_o.id}}"
- c1_f
`
	if diff := cmp.Diff(want, Join(c, c).String()); diff != "" {
		t.Errorf("joined (-want +got):\n%s", diff)
	}
}

func FuzzCaseFile(f *testing.F) {
	f.Add([]byte(story))
	f.Add([]byte("target x\na get *500us\n+ net/x at=7us for=1us when=\"calls:x >=3\"\nwait 3us\n"))
	f.Add([]byte("target \"a b\"\nenv a=\"\"\n+ net/x k=\"a b\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCase(b)
		if err != nil {
			return
		}
		text := c.String()
		back, err := ParseCase([]byte(text))
		if err != nil {
			t.Fatalf("%v\ncase:\n%s", err, text)
		}
		if diff := cmp.Diff(c, back, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-first +second):\n%s\ncase:\n%s", diff, text)
		}
		if again := back.String(); again != text {
			t.Fatalf("got\n%s\nwant\n%s", again, text)
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add("body.items.0.\"a.b\"")
	f.Fuzz(func(t *testing.T, key string) {
		segs, err := SplitKey(key)
		if err != nil {
			return
		}
		back, err := SplitKey(JoinKey(segs...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(segs, back); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestRecordIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	c, err := ParseCase([]byte(story))
	if err != nil {
		t.Fatal(err)
	}
	rec := &Record{Case: c, Build: Build{Module: "m", Caps: CapRace}, Events: []Event{
		{Seq: 1, Kind: Invoke, Lane: "a", Name: "get", Args: Args{{"path.id", Int(1)}, {"q", Text("a\"b")}, {"body", Raw("{\x00")}}},
		{Seq: 3, Kind: OK, Lane: "a", Name: "get", Text: "<&>", Value: 1.5, Step: -1},
	}}
	var b bytes.Buffer
	if err := rec.Write(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	back, err := ReadRecord(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rec, back, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if e := back.Event(3); e == nil || e.Kind != OK {
		t.Errorf("event 3: got %v", e)
	}
	lines := strings.SplitAfter(text, "\n")
	for n, want := range map[int]string{1: "0 of 2 events", 2: "1 of 2 events"} {
		if _, err := ReadRecord(strings.NewReader(strings.Join(lines[:n], ""))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d lines: got %v, want %s", n, err, want)
		}
	}
}

func TestRecordThatCannotHaveBeenWrittenIsRefused(t *testing.T) {
	t.Parallel()
	const head = `{"record":1,"case":"target x\na get\n","build":{"caps":0},"events":1}` + "\n"
	for events, want := range map[string]string{
		`{"seq":1,"kind":"banana","step":0}`: `line 2: no event is of kind "banana"`,
		`{"seq":1,"step":0}`:                 `line 2: no event is of kind ""`,
		`{"seq":1,"kind":"ok","step":1}`:     "line 2: step 1, but the case has 1 steps",
		`{"seq":1,"kind":"ok","step":-2}`:    "line 2: step -2",
		`{"seq":1,"kind":"ok","step":0}` + "\n" + `{"seq":2,"kind":"ok","step":0}`: "2 events and not 1",
		`{"seq":1,"kind":"ok","step":0}` + "\n" + `{"seq":1,"kind":"ok","step":0}`: "line 3: seq 1 is out of order",
	} {
		if _, err := ReadRecord(strings.NewReader(head + events + "\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v, want %s", events, err, want)
		}
	}
}

func TestStoredRecordIsBounded(t *testing.T) {
	t.Parallel()
	const head = `{"record":1,"case":"target x\n","build":{"caps":0},"events":2}` + "\n"
	const event = `{"seq":%d,"kind":"output","step":-1,"args":{"key":"\"value\""}}` + "\n"
	file := head + fmt.Sprintf(event, 1) + fmt.Sprintf(event, 2)
	size := 2 * Event{Args: Args{{"key", Text("value")}}}.Size()
	for _, tt := range []struct {
		size, file int
		want       string // "" for no error
	}{
		{size, len(file), ""},
		{size - 1, len(file), "line 3: the record is larger than any that is stored"},
		{size, len(file) - 1, fmt.Sprintf("the file is larger than %d bytes", len(file)-1)},
		{size, 8, "the file is larger than 8 bytes"},
	} {
		_, err := readRecord(strings.NewReader(file), tt.size, int64(tt.file))
		if got := fmt.Sprint(err); err == nil && tt.want != "" || err != nil && got != tt.want {
			t.Errorf("%d in %d bytes: got %v, want %s", tt.size, tt.file, err, tt.want)
		}
	}
}

func TestAppendGoesOn(t *testing.T) {
	t.Parallel()
	rec := &Record{Events: []Event{{Seq: 1, At: time.Second}, {Seq: 2, At: 2 * time.Second}}}
	rec.Append(&Record{Events: []Event{{Seq: 1, At: time.Millisecond}, {Seq: 2, At: time.Second}}, Truncated: true})
	want := &Record{Truncated: true, Events: []Event{
		{Seq: 1, At: time.Second}, {Seq: 2, At: 2 * time.Second}, {Seq: 3, At: 2*time.Second + time.Millisecond}, {Seq: 4, At: 3 * time.Second},
	}}
	if diff := cmp.Diff(want, rec); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("{\"record\":1,\"case\":\"target x\\n\",\"events\":1}\n{\"seq\":1,\"kind\":\"ok\",\"step\":-1,\"args\":{\"a\":\"{{o.id}}\"}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := ReadRecord(bytes.NewReader(b))
		if err != nil {
			return
		}
		var w bytes.Buffer
		if err := rec.Write(&w); err != nil {
			t.Fatal(err)
		}
		back, err := ReadRecord(&w)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rec, back, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}
