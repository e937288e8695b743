# Two hosts on one machine: network namespaces, whose loopbacks differ, joined by a cable.
# Usage: unshare -Urnpf --mount-proc --kill-child sh two_hosts.sh PYTHON CHIEF FOLDER
# All processes end with the script. The cable's ends have addresses out of 127.0.0.0/8 too:
# nothing else is touched or reachable.
set -e
python=$1 chief=$2 folder=$3

unshare --net sleep 600 &
there="nsenter --target $! --net"
other=$!
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.1; done
ip link add here type veth peer name there netns $other
for on in "env" "$there"; do
  $on sh -c 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet'
  $on ip link set lo up
  $on ip route del local 127.0.0.0/8 dev lo table local
done
ip address add 127.5.0.1/24 dev here
ip link set here up
$there ip address add 127.5.0.2/24 dev there
$there ip link set there up

$python -u -m sedona_tf.worker --host 127.5.0.1 --port 2221 > "$folder/1" &
$there $python -u -m sedona_tf.worker --host 127.5.0.2 --port 2222 > "$folder/2" &
until grep -q ready "$folder/1" && grep -q ready "$folder/2"; do sleep 0.2; done
$python -u "$chief" equal 127.5.0.2:2222,127.5.0.1:2221 127.5.0.1
