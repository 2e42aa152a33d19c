<?php
// php-memcached: types, multi with cas, delayed gets, counters, prefix, compression, all keys; text, binary, SASL.
[$mode, $ports] = [$argv[1], array_slice($argv, 2)];

function check($what, $got, $wanted = true)
{
    if ($got !== $wanted) {
        echo "FAILED $what: ", var_export($got, true), " instead of ", var_export($wanted, true), "\n";
        exit(1);
    }
    echo "ok $what\n";
}

function client($mode, $ports, $password = 'secret word')
{
    $client = new Memcached();
    $client->setOptions([Memcached::OPT_BINARY_PROTOCOL => $mode != 'text', Memcached::OPT_POLL_TIMEOUT => 20000,
        Memcached::OPT_TCP_NODELAY => true]);
    if ($mode == 'sasl') {
        $client->setSaslAuthData('user', $password);
    }
    foreach ($ports as $port) {
        $client->addServer('127.0.0.1', (int)$port);
    }
    return $client;
}

$writer = client($mode, [$ports[0]]);
$reader = client($mode, [end($ports)]);
check('flush', $writer->flush());
foreach (['text' => 'Grüße', 'number' => 42, 'float' => 1.5, 'true' => true, 'array' => ['a' => [1, 2, null]], 'empty' => '',
    'bytes' => implode('', array_map('chr', range(0, 255))), 'large' => str_repeat('xyz', 300000)] as $key => $value) {
    check("set $key", $writer->set($key, $value));
    check("get $key", $reader->get($key), $value);
}
$writer->setOption(Memcached::OPT_COMPRESSION, true);
check('compressed', $writer->set('zip', str_repeat('z', 3000000)));
check('and back', $reader->get('zip') === str_repeat('z', 3000000));
$writer->setOption(Memcached::OPT_COMPRESSION, false);
check('a miss', $reader->get('nothing'), false);
check('its code', $reader->getResultCode(), Memcached::RES_NOTFOUND);
check('add of what is there', $writer->add('text', 'no'), false);
check('add', $writer->add('added', 'yes'));
check('replace of what is not there', $writer->replace('absent', 'no'), false);
check('replace', $writer->replace('added', 'again'));
$writer->set('raw', 'middle');
check('append', $writer->append('raw', '-end'));
check('prepend', $writer->prepend('raw', 'begin-'));
check('appended and prepended', $reader->get('raw'), 'begin-middle-end');
$writer->set('count', 10);
check('increment', $writer->increment('count', 5), 15);
check('decrement', $reader->decrement('count', 20), 0);
if ($mode != 'text') {
    check('increment with an initial value', $writer->increment('new-count', 5, 100), 100);
    check('and again', $reader->increment('new-count', 5, 100), 105);
}
check('increment of nothing', $writer->increment('no-count'), false);
$found = $reader->get('text', null, Memcached::GET_EXTENDED);
check('get with a cas', $found['value'], 'Grüße');
check('cas', $writer->cas($found['cas'], 'text', 'first'));
check('cas that is late', $reader->cas($found['cas'], 'text', 'second'), false);
check('its code', $reader->getResultCode(), Memcached::RES_DATA_EXISTS);
$many = [];
for ($i = 0; $i < 500; $i++) {
    $many["many$i"] = "value $i";
}
check('setMulti', $writer->setMulti($many));
check('getMulti', $reader->getMulti(array_merge(array_keys($many), ['nothing']), Memcached::GET_PRESERVE_ORDER), $many + ['nothing' => null]);
check('getMulti with cas', count($reader->getMulti(array_keys($many), Memcached::GET_EXTENDED)), 500);
check('getDelayed', $reader->getDelayed(array_keys($many), true));
check('fetchAll', count($reader->fetchAll()), 500);
check('deleteMulti', array_filter($writer->deleteMulti(array_slice(array_keys($many), 0, 100)), fn($x) => $x !== true), []);
check('deleted', count($reader->getMulti(array_keys($many))), 400);
check('touch', $writer->touch('many200', 100));
check('touch of nothing', $writer->touch('nothing', 100), false);
check('set that is gone at once', $writer->set('gone', 1, 2592001));
check('gone', $reader->get('gone'), false);
check('delete', $writer->delete('text'));
check('delete of nothing', $reader->delete('text'), false);
check('read through', $reader->get('made', function ($client, $key, &$value) {
    $value = 'made';
    return true;
}), 'made');
$named = client($mode, [$ports[0]]);
$named->setOption(Memcached::OPT_PREFIX_KEY, 'name:');
check('prefix', $named->set('x', 1) && $reader->get('name:x') === 1);
$pool = client($mode, $ports);
$pool->setOption(Memcached::OPT_LIBKETAMA_COMPATIBLE, true);
check('a ring of all nodes', $pool->setMulti(array_combine(array_map(fn($i) => "ring$i", range(0, 199)), range(0, 199))));
check('every node has all', count($reader->getMulti(array_map(fn($i) => "ring$i", range(0, 199)))), 200);
check('getStats', count($pool->getStats()), count($ports));
check('getVersion', count($pool->getVersion()), count($ports));
if ($mode == 'text') {
    $keys = $reader->getAllKeys();
    check('getAllKeys', is_array($keys) && in_array('many200', $keys));
}
check('flush', $writer->flush());
check('all is gone', $reader->getMulti(['array', 'many200', 'count']), []);
if ($mode == 'sasl') {
    check('a wrong password is refused', client($mode, [$ports[0]], 'wrong')->set('x', 1), false);
}
