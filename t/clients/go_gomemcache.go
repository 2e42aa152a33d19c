// gomemcache: every method, many goroutines, all nodes behind one selector.
// Usage: go_gomemcache text PORT... (written through the first, read through the last).
package main

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

func check(what string, right bool, got interface{}) {
	if !right {
		fmt.Printf("FAILED %s: %v\n", what, got)
		os.Exit(1)
	}
	fmt.Printf("ok %s\n", what)
}

func client(ports []string) *memcache.Client {
	servers := []string{}
	for _, port := range ports {
		servers = append(servers, "127.0.0.1:"+port)
	}
	made := memcache.New(servers...)
	made.Timeout = 20 * time.Second
	return made
}

func item(key, value string) *memcache.Item {
	return &memcache.Item{Key: key, Value: []byte(value)}
}

func has(reader *memcache.Client, key, wanted string) bool {
	found, err := reader.Get(key)
	return err == nil && string(found.Value) == wanted
}

func singleKeys(writer, reader *memcache.Client) {
	large := bytes.Repeat([]byte("x"), 900000)
	check("Set", writer.Set(&memcache.Item{Key: "a", Value: []byte("Grüße"), Flags: 0xfffffffe, Expiration: 100}) == nil, nil)
	found, err := reader.Get("a")
	check("Get, with 32 bits of flags", err == nil && string(found.Value) == "Grüße" && found.Flags == 0xfffffffe, found)
	check("Set large", writer.Set(&memcache.Item{Key: "large", Value: large}) == nil, nil)
	found, err = reader.Get("large")
	check("Get large", err == nil && bytes.Equal(found.Value, large), err)
	check("Set empty", writer.Set(item("empty", "")) == nil && has(reader, "empty", ""), nil)
	_, err = reader.Get("nothing")
	check("a miss", err == memcache.ErrCacheMiss, err)
	check("Add of what is there", writer.Add(item("a", "no")) == memcache.ErrNotStored, nil)
	check("Add", writer.Add(item("added", "yes")) == nil, nil)
	check("Replace of what is not there", writer.Replace(item("absent", "no")) == memcache.ErrNotStored, nil)
	check("Replace", writer.Replace(item("added", "again")) == nil && has(reader, "added", "again"), nil)
	check("Touch", writer.Touch("added", 1000) == nil, nil)
	check("Touch of nothing", writer.Touch("nothing", 1000) == memcache.ErrCacheMiss, nil)
	check("Delete", writer.Delete("added") == nil, nil)
	check("Delete of nothing", reader.Delete("added") == memcache.ErrCacheMiss, nil)
	_, err = reader.Get(string(bytes.Repeat([]byte("k"), 251)))
	check("a key that is too long", err == memcache.ErrMalformedKey, err)
}

func numbers(writer, reader *memcache.Client) {
	check("Set a number", writer.Set(item("n", "10")) == nil, nil)
	number, err := writer.Increment("n", 5)
	check("Increment", err == nil && number == 15, err)
	number, err = reader.Decrement("n", 20)
	check("Decrement", err == nil && number == 0, err)
	_, err = writer.Increment("nothing", 1)
	check("Increment of nothing", err == memcache.ErrCacheMiss, err)
	check("Set 0", writer.Set(item("shared", "0")) == nil, nil)
	var group sync.WaitGroup
	for i := 0; i < 20; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			for j := 0; j < 50; j++ {
				if _, err := [2]*memcache.Client{writer, reader}[i%2].Increment("shared", 1); err != nil {
					check("Increment in a goroutine", false, err)
				}
			}
		}(i)
	}
	group.Wait()
	check("20 goroutines count", has(reader, "shared", "1000"), nil)
}

func compareAndSwap(writer, reader *memcache.Client) {
	first, err := writer.Get("a")
	check("Get for CompareAndSwap", err == nil, err)
	second, err := reader.Get("a")
	check("Get elsewhere", err == nil, err)
	first.Value = []byte("first")
	check("CompareAndSwap", writer.CompareAndSwap(first) == nil, nil)
	second.Value = []byte("second")
	check("CompareAndSwap that is late", reader.CompareAndSwap(second) == memcache.ErrCASConflict, nil)
	check("the first one is there", has(reader, "a", "first"), nil)
	check("Delete", writer.Delete("a") == nil, nil)
	check("CompareAndSwap of nothing", writer.CompareAndSwap(first) == memcache.ErrCacheMiss, nil)
}

func manyKeys(writer, reader, all *memcache.Client) {
	keys := []string{"nothing"}
	for i := 0; i < 500; i++ {
		key := fmt.Sprintf("many%d", i)
		keys = append(keys, key)
		check("Set through all nodes", all.Set(item(key, key)) == nil, nil)
	}
	found, err := all.GetMulti(keys)
	check("GetMulti from all nodes", err == nil && len(found) == 500 && string(found["many7"].Value) == "many7", err)
	found, err = reader.GetMulti(keys)
	check("GetMulti from one", err == nil && len(found) == 500, err)
	check("DeleteAll", writer.DeleteAll() == nil, nil)
	check("Set after it", writer.Set(item("a", "x")) == nil, nil)
	check("FlushAll", all.FlushAll() == nil, nil)
	found, err = reader.GetMulti(append(keys, "a"))
	check("all is gone", err == nil && len(found) == 0, err)
}

func main() {
	ports := os.Args[2:]
	writer, reader := client(ports[:1]), client(ports[len(ports)-1:])
	check("FlushAll", writer.FlushAll() == nil, nil)
	singleKeys(writer, reader)
	numbers(writer, reader)
	compareAndSwap(writer, reader)
	manyKeys(writer, reader, client(ports))
}
