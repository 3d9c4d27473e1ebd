package store

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
)

func TestBugIsReadBackFromItsFiles(t *testing.T) {
	t.Parallel()
	run, err := Create(t.TempDir(), 7, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	c, err := harness.ParseCase([]byte("target x\nseed 7\na get *2\n"))
	if err != nil {
		t.Fatal(err)
	}
	b := harness.Bug{Finding: harness.Finding{Detector: "race", Signature: "race: a/../b | c", Title: "t"}, First: c, Case: c, Shown: 9, Replays: 10}
	rec := &harness.Record{Case: c, Events: []harness.Event{{Seq: 1, Kind: harness.Output, Name: "service", Lane: "stderr", Text: "boom"}}}
	for range 2 { // the second time is the proof
		if err := run.Put(b, rec); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(run.BugDir(b.Signature), "bug.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got harness.Bug
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, got); diff != "" {
		t.Errorf("bug (-want +got):\n%s", diff)
	}
	text, err := os.ReadFile(run.CaseFile(b.Signature))
	if err != nil || string(text) != c.String() {
		t.Errorf("case file: %v\n%s", err, text)
	}
	f, err := os.Open(filepath.Join(run.BugDir(b.Signature), "record.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if back, err := harness.ReadRecord(f); err != nil || len(back.Events) != 1 {
		t.Errorf("record: %v %v", back, err)
	}
	files, err := os.ReadDir(run.BugDir(b.Signature))
	if err != nil || len(files) != 5 {
		t.Errorf("%v %v", files, err)
	}
}

func TestRunsOfOneSecondAreKeptApart(t *testing.T) {
	t.Parallel()
	out, now := t.TempDir(), time.Now()
	a, err := Create(out, 1, now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Create(out, 1, now)
	if err != nil || a.Dir == b.Dir {
		t.Errorf("%v, %v: %v", a, b, err)
	}
}

func FuzzSlug(f *testing.F) {
	f.Add("race: ../../x | y")
	f.Add("")
	name := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,80}$`)
	f.Fuzz(func(t *testing.T, signature string) {
		if s := Slug(signature); !name.MatchString(s) || !filepath.IsLocal(s) {
			t.Errorf("%q is no file name", s)
		}
	})
}

func TestWhatIsWrittenIsNeverHalf(t *testing.T) {
	t.Parallel()
	run, err := Create(t.TempDir(), 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(run.BugDir("x"), "case")
	texts := []string{strings.Repeat("a", 1<<20), strings.Repeat("b", 1<<20)}
	done := make(chan error)
	go func() {
		for i := range 20 {
			if err := run.Keep("x", map[string][]byte{"case": []byte(texts[i%2])}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		if b, err := os.ReadFile(path); err == nil && string(b) != texts[0] && string(b) != texts[1] {
			t.Fatalf("half a file of %d bytes was seen", len(b))
		}
		if files, err := os.ReadDir(filepath.Dir(path)); err == nil && len(files) > 1 {
			t.Fatalf("something else is beside it: %v", files)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if err := run.Campaign(1); err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(run.Dir); err != nil || len(left) != 2 {
				t.Errorf("left: %v, %v", left, err)
			}
			return
		default:
		}
	}
}

func TestWriteGoesThroughWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, file} {
		if err := Write(path, []byte(path)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != path {
			t.Errorf("%s: %q, %v", path, b, err)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode().IsRegular() {
			t.Errorf("the link has become a file: %v", err)
		}
	}
}
