"""What drgn reads of a dump, as JSON: tasks, stacks, and the pages that uvsim complains of.

Run by drgn itself, as `drgn -c DUMP -s VMLINUX read.py`.
"""

import json
import re

from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.mm import decode_page_flags, page_to_phys, pfn_to_page
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.sched import cpu_curr, idle_task


def task(one):
    return {"pid": one.pid.value_(), "comm": one.comm.string_().decode()}


def stack(one):
    """The functions, innermost first; of each call all names, since a function may have several and be inlined."""
    calls = []
    for frame in prog.stack_trace(one):
        names = {frame.name, *(symbol.name for symbol in prog.symbols(frame.pc))}
        calls.append(sorted(name for name in names if name))
    return calls


def page(number):
    one = pfn_to_page(prog, number)
    assert page_to_phys(one) == number << 12
    return {
        "pfn": number,
        "flags": one.flags.value_(),
        "names": decode_page_flags(one).split("|"),
        "references": one._refcount.counter.value_(),
        # It is counted from -1.
        "mappings": one._mapcount.counter.value_() + 1,
        "inode": one.mapping.host.i_ino.value_(),
    }


log = get_dmesg(prog).decode(errors="replace")
cpus = list(for_each_online_cpu(prog))
running = [cpu_curr(prog, cpu) for cpu in cpus]
complaints = re.findall(r"inaccessible page pfn:([0-9a-f]+) ", log)
print(
    json.dumps(
        {
            "tasks": [task(one) for one in for_each_task(prog)],
            "idle": [task(idle_task(prog, cpu)) for cpu in cpus],
            "running": [{**task(one), "stack": stack(one)} for one in running],
            "init": stack(1),
            "pages": [page(int(number, 16)) for number in complaints],
        }
    )
)
