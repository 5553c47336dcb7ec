# libev's own benchmark for Perl's EV: bench/pairs.py's pyev, word for word in the other language.
#
#     perl libev_bench.pl PAIRS ACTIVE EVENTS RUNS
use strict;
use warnings;
use EV;
use IO::Handle;
use Socket;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my ($pairs, $active, $events, $runs) = @ARGV;
my ($left, @readers, @writers, @watchers) = (0);

for (1 .. $pairs) {
    socketpair(my $reader, my $writer, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
    $_->blocking(0) for $reader, $writer;
    push @readers, $reader;
    push @writers, $writer;
}

for my $index (0 .. $pairs - 1) {
    my ($reader, $writer) = ($readers[$index], $writers[($index + 1) % $pairs]);
    my $timer = EV::timer 0, 10 + rand, sub { die "a timeout was reached" };
    $timer->again;
    my $watcher = EV::io $reader, EV::READ, sub {
        $timer->again;
        sysread $reader, my $byte, 1 or die "read: $!";
        $left--;
        if ($left >= $active) {
            syswrite $writer, "e", 1;
        } elsif (!$left) {
            EV::break;
        }
    };
    push @watchers, $timer, $watcher;
}

my @found;
for (0 .. $runs) {
    my $space = int($pairs / $active);
    syswrite $writers[$_ * $space], "e", 1 for 0 .. $active - 1;
    $left = $events;
    my $start = clock_gettime(CLOCK_MONOTONIC);
    EV::run;
    push @found, (clock_gettime(CLOCK_MONOTONIC) - $start) * 1e9 / $events;
}
shift @found;    # the warm-up
print "[", join(", ", @found), "]\n";
