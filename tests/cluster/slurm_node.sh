#!/usr/bin/env bash
# One machine that is a whole SLURM cluster: controller, node and authentication, for the tests of --cluster.
#
#   slurm_node.sh up     install what is missing (Debian or Ubuntu, as root), configure, start, wait for an idle node
#   slurm_node.sh down   stop the daemons that `up` started
#   slurm_node.sh why    print why it cannot run here, or nothing
#
# Everything listens on the loopback interface; state and logs lie under $SLURM_NODE_DIR.
set -euo pipefail

folder=${SLURM_NODE_DIR:-/var/tmp/featstore-slurm}
settings=/etc/slurm/slurm.conf
cpus=${SLURM_NODE_CPUS:-$(nproc)}

why() {
  if [ "$(id -u)" != 0 ]; then
    echo "SLURM's daemons are started by root only"
  elif ! command -v slurmctld >/dev/null && ! command -v apt-get >/dev/null; then
    echo "SLURM is not installed, and there is no apt-get to install it with"
  fi
}

packages() {
  command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null
}

authentication() {
  local user=munge
  install -d -o "$user" -g "$user" -m 0755 /run/munge
  install -d -o "$user" -g "$user" -m 0700 /var/log/munge /var/lib/munge
  [ -s /etc/munge/munge.key ] || head -c 1024 /dev/urandom >/etc/munge/munge.key
  chown "$user:$user" /etc/munge /etc/munge/munge.key
  chmod 0400 /etc/munge/munge.key
  if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
    su -s /bin/sh "$user" -c '/usr/sbin/munged --force' && echo munged >>"$folder/started"
  fi
}

configuration() {
  local node memory
  node=$(hostname -s)
  memory=$(awk '/^MemTotal/ {printf "%d", $2 / 1024 * 0.75}' /proc/meminfo)
  mkdir -p "$folder"/{controller,node} /etc/slurm
  if [ -s "$settings" ] && ! grep -q '^ClusterName=featstore$' "$settings"; then
    cp -n "$settings" "$folder/slurm.conf.before"
  fi
  {
    echo "ClusterName=featstore"
    echo "SlurmctldHost=$node(127.0.0.1)"
    echo "SlurmUser=root"
    echo "SlurmdUser=root"
    echo "AuthType=auth/munge"
    echo "StateSaveLocation=$folder/controller"
    echo "SlurmdSpoolDir=$folder/node"
    echo "SlurmctldPidFile=$folder/slurmctld.pid"
    echo "SlurmdPidFile=$folder/slurmd.pid"
    echo "SlurmctldLogFile=$folder/slurmctld.log"
    echo "SlurmdLogFile=$folder/slurmd.log"
    # no cgroups and no accounting: neither is there in a container
    echo "ProctrackType=proctrack/linuxproc"
    echo "TaskPlugin=task/none"
    echo "JobAcctGatherType=jobacct_gather/none"
    echo "AccountingStorageType=accounting_storage/none"
    echo "SwitchType=switch/none"
    echo "MpiDefault=none"
    echo "SelectType=select/cons_tres"
    echo "SelectTypeParameters=CR_CPU"
    echo "ReturnToService=2"
    echo "KillWait=5"
    echo "NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN"
    echo "PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
  } >"$settings"
}

alive() { [ -s "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null; }

up() {
  local reason
  reason=$(why)
  if [ -n "$reason" ]; then
    echo "slurm_node: $reason" >&2
    exit 1
  fi
  mkdir -p "$folder"
  packages
  authentication
  if ! alive slurmctld || ! alive slurmd; then
    down
    configuration
    slurmctld
    slurmd
  fi
  for _ in $(seq 60); do
    if sinfo --noheader --format %t 2>/dev/null | grep -qE '^(idle|mix|alloc)'; then
      sinfo
      return
    fi
    sleep 1
  done
  echo "slurm_node: no node became ready within a minute; see $folder/*.log" >&2
  exit 1
}

down() {
  for daemon in slurmd slurmctld; do
    if alive "$daemon"; then
      kill "$(cat "$folder/$daemon.pid")"
    fi
    rm -f "$folder/$daemon.pid"
  done
  if grep -qs munged "$folder/started" && [ "${1:-}" = all ]; then
    kill "$(cat /run/munge/munged.pid)" 2>/dev/null || true
    rm -f "$folder/started"
  fi
}

case ${1:-} in
  up) up ;;
  down) down all ;;
  why) why ;;
  *)
    echo "usage: slurm_node.sh up|down|why" >&2
    exit 2
    ;;
esac
