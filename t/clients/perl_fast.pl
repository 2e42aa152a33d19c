#!/usr/bin/perl
# Cache::Memcached::Fast: the _multi calls, cas, nowait, serialization, compression, namespaces, all nodes as a ring.
use strict;
use warnings;
use Cache::Memcached::Fast;

my ($mode, @ports) = @ARGV;
$| = 1;

sub check {
    my ($what, $got, $wanted) = @_;
    my $same = defined $got ? defined $wanted && $got eq $wanted : !defined $wanted;
    die "FAILED $what: " . ($got // 'undef') . " instead of " . ($wanted // 'undef') . "\n" unless $same;
    print "ok $what\n";
}

sub client {
    my ($ports, %more) = @_;
    return Cache::Memcached::Fast->new({servers => [map { "127.0.0.1:$_" } @$ports], io_timeout => 20, connect_timeout => 20,
        ketama_points => 150, utf8 => 1, %more});
}

my $writer = client([$ports[0]]);
my $reader = client([$ports[-1]]);
check('flush_all', scalar keys %{$writer->flush_all}, 1);
check('set', $writer->set('text', "Gr\x{fc}\x{df}e"), 1);
check('get', $reader->get('text'), "Gr\x{fc}\x{df}e");
check('set a structure', $writer->set('deep', {list => [1, 2, {x => 'y'}]}), 1);
check('get a structure', $reader->get('deep')->{list}[2]{x}, 'y');
check('set large', $writer->set('large', 'x' x 900000), 1);
check('get large', length $reader->get('large'), 900000);
check('set empty', $writer->set('empty', ''), 1);
check('get empty', $reader->get('empty'), '');
check('a miss', $reader->get('nothing'), undef);
check('add of what is there', !!$writer->add('text', 'no'), '');
check('add', $writer->add('added', 'yes'), 1);
check('replace of what is not there', !!$writer->replace('absent', 'no'), '');
check('replace', $writer->replace('added', 'again'), 1);
$writer->set('raw', 'middle');
check('append', $writer->append('raw', '-end'), 1);
check('prepend', $writer->prepend('raw', 'begin-'), 1);
check('appended and prepended', $reader->get('raw'), 'begin-middle-end');
$writer->set('count', 10);
check('incr', $writer->incr('count', 5), 15);
check('decr', 0 + $reader->decr('count', 20), 0);
check('incr of nothing', !!$writer->incr('nothing'), '');
my $pair = $reader->gets('text');
check('cas', $writer->cas('text', $pair->[0], 'first'), 1);
check('cas that is late', !!$reader->cas('text', $pair->[0], 'second'), '');
my @many = map { ["many$_", "value $_", 100] } 0 .. 499;
check('set_multi', scalar(grep { $_ } @{[$writer->set_multi(@many)]}), 500);
my $found = $reader->get_multi((map { "many$_" } 0 .. 499), 'nothing');
check('get_multi', join(',', scalar keys %$found, $found->{many499}), '500,value 499');
check('gets_multi', scalar keys %{$reader->gets_multi(map { "many$_" } 0 .. 499)}, 500);
check('cas_multi', scalar(grep { $_ } $writer->cas_multi(map { my $got = $reader->gets("many$_"); ["many$_", $got->[0], 'new'] } 0 .. 9)), 10);
check('append_multi', scalar(grep { $_ } $writer->append_multi(map { ["many$_", '!'] } 0 .. 9)), 10);
check('appended', $reader->get('many3'), 'new!');
$writer->set_multi(map { ["n$_", $_] } 1 .. 9);
check('incr_multi', join(',', $writer->incr_multi(map { ["n$_", 10] } 1 .. 9)), '11,12,13,14,15,16,17,18,19');
check('delete_multi', scalar(grep { $_ } $writer->delete_multi(map { "many$_" } 0 .. 99)), 100);
check('deleted', scalar keys %{$reader->get_multi(map { "many$_" } 0 .. 499)}, 400);
check('touch', $writer->touch('many200', 1000), 1);
check('gat', $reader->gat(1000, 'many200'), 'value 200');
check('gats', ref $reader->gats(1000, 'many200'), 'ARRAY');
check('delete', $writer->delete('text'), 1);
check('delete of nothing', !!$reader->delete('text'), '');
my $quiet = client([$ports[0]], nowait => 1);
$quiet->set("quiet$_", $_) for 0 .. 199;
$quiet->nowait_push;
check('nowait, then all are there', scalar keys %{$reader->get_multi(map { "quiet$_" } 0 .. 199)}, 200);
my $named = client([$ports[0]], namespace => 'name:');
check('namespace', $named->set('x', 1) && $reader->get('name:x'), 1);
my $ring = client(\@ports);
check('a ring of all nodes', scalar(grep { $_ } $ring->set_multi(map { ["ring$_", $_] } 0 .. 199)), 200);
check('every node has all', scalar keys %{$reader->get_multi(map { "ring$_" } 0 .. 199)}, 200);
check('server_versions', scalar keys %{$ring->server_versions}, scalar @ports);
$writer->flush_all;
check('all is gone', scalar keys %{$reader->get_multi('deep', 'many200', 'count')}, 0);
