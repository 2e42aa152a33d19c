#!/usr/bin/ruby
# Dalli 3.0 (binary): fetch, cas blocks, counters with a default, multi, raw and compressed values, namespaces, a ring, SASL.
require 'dalli'

mode, *ports = ARGV
$stdout.sync = true
LOGIN = mode == 'sasl' ? { username: 'user', password: 'secret word' } : {}
Dalli.logger.level = Logger::FATAL

def check(what, got, wanted = true)
  abort "FAILED #{what}: #{got.inspect} instead of #{wanted.inspect}" unless got == wanted
  puts "ok #{what}"
end

def client(ports, **more)
  Dalli::Client.new(ports.map { |port| "127.0.0.1:#{port}" }, { socket_timeout: 20 }.merge(LOGIN).merge(more))
end

writer = client(ports.first(1))
reader = client(ports.last(1))
check 'flush', writer.flush, [true]
{ 'text' => 'Grüße', 'number' => 42, 'hash' => { a: [1, 2, nil] }, 'bytes' => (0..255).map(&:chr).join.b, 'empty' => '',
  'large' => 'x' * 900_000 }.each do |key, value|
  check "set #{key}", writer.set(key, value).is_a?(Integer)
  check "get #{key}", reader.get(key), value
end
packed = client(ports.first(1), compress: true)
check 'compressed', packed.set('zip', 'z' * 3_000_000).is_a?(Integer)
check 'and back', reader.get('zip'), 'z' * 3_000_000
check 'a miss', reader.get('nothing'), nil
check 'add of what is there', writer.add('text', 'no'), false
check 'add', writer.add('added', 'yes').is_a?(Integer)
check 'replace of what is not there', [false, 0].include?(writer.replace('absent', 'no')) && reader.get('absent').nil?
check 'replace', writer.replace('added', 'again').is_a?(Integer)
writer.set('raw', 'middle', 100, raw: true)
check 'append', writer.append('raw', '-end')
check 'prepend', writer.prepend('raw', 'begin-')
check 'appended and prepended', reader.get('raw', raw: true), 'begin-middle-end'
check 'incr with a default', writer.incr('count', 5, 0, 100), 100
check 'incr', writer.incr('count', 5), 105
check 'decr', reader.decr('count', 200), 0
check 'incr of nothing', writer.incr('no-count', 1), nil
check 'its value is text', reader.get('count', raw: true).strip, '0'
check 'fetch of a miss', writer.fetch('fetched') { 'made' }, 'made'
check 'fetch of a hit', reader.fetch('fetched') { 'not made' }, 'made'
check 'cas', writer.cas('text') { |old| old + '!' }.is_a?(Integer)
check 'after cas', reader.get('text'), 'Grüße!'
check 'cas of nothing', writer.cas('absent') { |_| 'x' }, nil
check 'cas that is late', writer.cas('text') { |_| reader.set('text', 'faster') && 'late' }, false
value, unique = reader.get_cas('text')
check 'get_cas', [value, unique.positive?], ['faster', true]
check 'set_cas', writer.set_cas('text', 'new', unique).is_a?(Integer)
check 'set_cas that is late', reader.set_cas('text', 'late', unique), false
check 'delete_cas that is late', writer.delete_cas('text', unique), false
many = (0...500).to_h { |i| ["many#{i}", "value #{i}"] }
writer.multi { many.each { |key, value| writer.set(key, value) } }
check 'multi, then get_multi', reader.get_multi(*many.keys, 'nothing'), many
check 'get_multi_cas', reader.get_multi_cas(*many.keys).transform_values(&:first), many
check 'touch', writer.touch('many1', 100)
check 'touch of nothing', !writer.touch('nothing', 100)
check 'gat', reader.gat('many2', 100), 'value 2'
check 'gat of nothing', reader.gat('nothing', 100), nil
check 'delete', writer.delete('many1')
check 'delete of nothing', !reader.delete('many1')
named = client(ports.first(1), namespace: 'name')
named.set('x', 1)
check 'namespace', reader.get('name:x'), 1
ring = client(ports)
200.times { |i| ring.set("ring#{i}", i) }
check 'a ring of all nodes', ring.get_multi((0...200).map { |i| "ring#{i}" }).size, 200
check 'every node has all', reader.get_multi((0...200).map { |i| "ring#{i}" }).size, 200
check 'stats', ring.stats.values.all? { |stats| stats['pid'].to_i.positive? }
check 'stats items', ring.stats(:items).size, ports.size
check 'version', ring.version.values.all? { |version| version =~ /^\d/ }
check 'alive!', !writer.alive!.nil?
check 'flush', writer.flush, [true]
check 'all is gone', reader.get_multi('hash', 'many2', 'count'), {}
if mode == 'sasl'
  begin
    client(ports.first(1), password: 'wrong').set('x', 1)
    check 'a wrong password is refused', false
  rescue Dalli::DalliError
    check 'a wrong password is refused', true
  end
end
