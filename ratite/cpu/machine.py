"""What the vCPUs of one machine share natively: the translation-block table, the pages that hold
code, dirty maps.
"""

from __future__ import annotations

from ratite.cpu.space import Space, watch_ram
from ratite.isa.state import CpuState
from ratite.native import (
    Array,
    Field,
    Struct,
    atomic_cas,
    atomic_store,
    fence,
    host_load,
    host_store,
    native,
    pause,
    symbol_address,
    u8,
    u32,
    u64,
)

MAX_CPUS = 512
PAGE_SHIFT = 12
NO_PAGE = 0xFFFF_FFFF_FFFF_FFFF
RETIRED_MODE = 0xFFFF_FFFF
NOTE_ENTRIES, STOP_BEFORE, UNCHAINED = 1, 2, 4
"""What is done about a machine's blocks: note each that is entered, but through a chained jump;
leave run() before it; chain none. See `ratite.accel.jit.announce`."""
HANDLER_RETIRED, HANDLER_ENTER = "tier0.retired", "tier0.enter"
HANDLER_ANNOUNCED = "tier0.announced"


class Block(Struct):
    """Header of a translation block (TB). Its records follow it in memory; the header itself is
    entered like a record, through `handler`, so that replacing the handler redirects every jump to
    the block."""

    handler = Field(u64)
    pc = Field(u64, doc="guest-virtual address of the first instruction")
    ram_pc = Field(u64, doc="its ram_addr_t; with pc and mode the key of the block")
    second_ram = Field(u64, doc="ram_addr_t of the second page, NO_PAGE if the block lies in one")
    hash_next = Field(u64)
    page_next = Field(u64, doc="next block of the first page")
    second_next = Field(u64, doc="next block of the second page")
    code = Field(u64, doc="host address of the first instruction")
    mode = Field(u32, doc="RETIRED_MODE once the block is retired")
    count = Field(u32, doc="instructions")
    size = Field(u32, doc="bytes of guest code")
    heat = Field(u32, doc="entries left until the block is worth optimising")
    uses = Field(u64, doc="host address of the first RegionUse of the block, 0 if in no region")
    fetch_index = Field(u32, doc="softmmu TLB that the code is fetched through")
    reports = Field(u32, doc="times that it was hot")


BLOCK_HEADER = Block.SIZE
HOT_RING = 256


class RegionInfo(Struct):
    """A compiled region. The RegionUse of each of its blocks follow in memory."""

    handler = Field(u64, doc="host address of its code; 0 once it is void")
    count = Field(u64, doc="blocks")
    rank = Field(u64, doc="of two regions that may be entered at a block, the higher one is")


class RegionUse(Struct):
    """A block's membership in a compiled region."""

    next = Field(u64, doc="host address of the block's next RegionUse")
    block = Field(u64)
    region = Field(u64, doc="host address of the RegionInfo")
    is_entry = Field(u32, doc="whether the region may be entered at the block")


class Shared(Struct):
    """One per machine."""

    lock = Field(u32)
    cpu_count = Field(u32)
    buffer = Field(u64, doc="host address of the block buffer")
    next = Field(u64, doc="its first free byte")
    end = Field(u64)
    hash_table = Field(u64, doc="host address of an array of block addresses")
    hash_mask = Field(u64)
    first_block = Field(u64, doc="host address of an array, by RAM page, of the page's blocks")
    code_clean = Field(
        u64, doc="host address of a byte per RAM page: 0 while the page holds translated code"
    )
    migration = Field(u64, doc="likewise: 0 while a write must be logged for migration")
    display = Field(u64, doc="likewise for display")
    blocks = Field(u64, doc="blocks translated since the last flush")
    code_bytes = Field(u64, doc="bytes of guest code in them")
    largest = Field(u64, doc="of the largest of them")
    across = Field(u64, doc="blocks among them that lie on two pages")
    direct = Field(u64, doc="blocks among them that go on at known addresses")
    branches = Field(u64, doc="blocks among those that go on at either of two")
    instructions = Field(u64, doc="instructions translated, ever")
    translated = Field(u64, doc="blocks translated, ever")
    retired = Field(u64, doc="blocks retired, ever")
    flushes = Field(u64, doc="times that the buffer was emptied")
    cpus = Array(u64, MAX_CPUS, doc="host addresses of the vCPUs' states")
    max_instructions = Field(u32, doc="instructions of a block at most")
    hot_threshold = Field(u32, doc="entries after which a new block is hot")
    compile_threshold = Field(u32, doc="further entries after which it is reported again")
    hot_head = Field(u32, doc="hot blocks reported, ever")
    hot_ring = Array(u64, HOT_RING, doc="host addresses of the last of them")
    hot_cpu = Array(u32, HOT_RING, doc="the vCPUs that reported them")
    epoch = Field(u64, doc="pages that stores must be noted to, ever: see `Space.epoch`")
    voided = Field(u64, doc="regions taken out because a block of theirs was retired, ever")

    breakpoints = Field(u64, doc="host address of their guest-virtual addresses, sorted")
    breakpoint_count = Field(u64)
    logging = Field(u32, doc="what the log wants of blocks: NOTE_ENTRIES, STOP_BEFORE, UNCHAINED")
    watchpoints = Field(u64, doc="host address of the WatchRanges; see ratite.cpu.debug")
    watchpoint_count = Field(u64)

    @native
    def acquire(self) -> None:
        """Take the translation lock. It is never held while waiting for Python."""
        while atomic_cas(self.pointer() + Shared.lock.offset, u32(0), u32(1)) != 0:
            pause()

    @native
    def release(self) -> None:
        """Give the translation lock back."""
        atomic_store(self.pointer() + Shared.lock.offset, u32(0))

    @native
    def note_write(self, current: u64, ram: u64, size: u64) -> bool:
        """A write of `size` bytes, within one page, is about to happen: log it and retire the
        blocks that it changes. Returns whether `current` is one of them."""
        page = ram >> PAGE_SHIFT
        host_store(self.migration + page, u8(1))
        host_store(self.display + page, u8(1))
        if host_load(u8, self.code_clean + page) != 0:
            return False
        self.acquire()
        hit = retire_range(self, current, ram, size)
        self.release()
        return hit


@native
def page_is_clean(shared: Shared, ram: u64) -> bool:
    """Whether a store to the page must be noted first: it holds translated code, or a dirty log
    waits for it.
    """
    page = ram >> PAGE_SHIFT
    code = host_load(u8, shared.code_clean + page)
    migration = host_load(u8, shared.migration + page)
    display = host_load(u8, shared.display + page)
    return code == 0 or migration == 0 or display == 0


@native
def bucket_of(shared: Shared, ram_pc: u64, pc: u64, mode: u32) -> u64:
    """Host address of the hash bucket of a key."""
    mixed = (ram_pc >> 1) ^ (pc >> 13) ^ (u64(mode) << 7)
    mixed = mixed * 0x9E37_79B9_7F4A_7C15
    return shared.hash_table + ((mixed >> 32) & shared.hash_mask) * 8


@native
def next_on_page(block: Block, page: u64) -> u64:
    """The page list's next block after this one."""
    if block.ram_pc >> PAGE_SHIFT == page:
        return block.page_next
    return block.second_next


@native
def set_next_on_page(block: Block, page: u64, value: u64) -> None:
    """Relink the page's list."""
    if block.ram_pc >> PAGE_SHIFT == page:
        block.page_next = value
    else:
        block.second_next = value


@native
def retire(shared: Shared, block: Block) -> None:
    """Redirect every jump to the block to a fresh look-up, and take it out of the hash table.
    Blocks are never freed one by one: a vCPU may be inside."""
    bucket = bucket_of(shared, block.ram_pc, block.pc, block.mode)
    here = host_load(u64, bucket)
    if here == block.pointer():
        atomic_store(bucket, block.hash_next)
    while here != 0:
        other = Block.at(here)
        if other.hash_next == block.pointer():
            other.hash_next = block.hash_next
        here = other.hash_next
    block.mode = u32(RETIRED_MODE)
    atomic_store(block.pointer(), symbol_address(HANDLER_RETIRED))
    shared.retired += 1
    void_regions(shared, block)


@native
def void_regions(shared: Shared, block: Block) -> None:
    """Give the entries of the regions that hold the block back to tier 0."""
    here = block.uses
    while here != 0:
        use = RegionUse.at(here)
        region = RegionInfo.at(use.region)
        if region.handler != 0:
            index = u64(0)
            while index < region.count:
                member = use_at(region, index).block
                if host_load(u64, member) == region.handler:
                    atomic_store(member, symbol_address(HANDLER_ENTER))
                index += 1
            region.handler = u64(0)
            shared.voided += 1
        here = use.next
    block.uses = u64(0)


@native
def use_at(region: RegionInfo, index: u64) -> RegionUse:
    """A region's membership records."""
    return RegionUse.at(region.pointer() + RegionInfo.SIZE + index * RegionUse.SIZE)


@native
def entered_rank(block: Block) -> u64:
    """Rank of the region that is entered at the block; 0 if none is."""
    here = block.uses
    while here != 0:
        use = RegionUse.at(here)
        if RegionInfo.at(use.region).handler == block.handler:
            return RegionInfo.at(use.region).rank
        here = use.next
    return u64(0)


@native
def install_region(shared: Shared, region: RegionInfo) -> bool:
    """Enter a compiled region through its first block, and through those of its entries that no
    region of a higher rank has. `block` and `is_entry` of its RegionUses are set. False, and
    nothing done, if one of the blocks has been retired meanwhile.
    """
    shared.acquire()
    good = True
    index = u64(0)
    while index < region.count:
        if Block.at(use_at(region, index).block).mode == RETIRED_MODE:
            good = False
        index += 1
    if good:
        index = u64(0)
        while index < region.count:
            use = use_at(region, index)
            block = Block.at(use.block)
            use.region = region.pointer()
            use.next = block.uses
            block.uses = use.pointer()
            if index == 0 or (use.is_entry != 0 and entered_rank(block) <= region.rank):
                atomic_store(use.block, region.handler)
            index += 1
    shared.release()
    return good


@native
def overlaps(block: Block, page: u64, first: u64, last: u64) -> bool:
    """Whether the block's code within `page` has a byte of first..last, offsets within the page."""
    start = block.ram_pc & 0xFFF
    end = start + u64(block.size) - 1
    if block.ram_pc >> PAGE_SHIFT == page:
        return start <= last and end >= first
    return end - 0x1000 >= first  # the tail on its second page begins at offset 0


@native
def retire_range(shared: Shared, current: u64, ram: u64, size: u64) -> bool:
    """Retire the blocks of a page that overlap a range of it. The lock is held."""
    page = ram >> PAGE_SHIFT
    first = ram & 0xFFF
    last = first + size - 1
    hit = False
    head = shared.first_block + page * 8
    previous = u64(0)
    here = host_load(u64, head)
    while here != 0:
        block = Block.at(here)
        following = next_on_page(block, page)
        gone = block.mode == RETIRED_MODE
        if not gone and overlaps(block, page, first, last):
            if here == current or block.uses != 0:
                hit = True
            retire(shared, block)
            gone = True
        if gone:
            if previous == 0:
                host_store(head, following)
            else:
                set_next_on_page(Block.at(previous), page, following)
        else:
            previous = here
        here = following
    if host_load(u64, head) == 0:
        atomic_store(shared.code_clean + page, u8(1))
    return hit


@native
def code_written(shared: Shared, ram: u64, size: u64) -> None:
    """A device or debugger wrote RAM: retire the blocks that it changed. Any thread."""
    shared.acquire()
    done = u64(0)
    while done < size:
        chunk = 0x1000 - ((ram + done) & 0xFFF)
        if chunk > size - done:
            chunk = size - done
        if host_load(u8, shared.code_clean + ((ram + done) >> PAGE_SHIFT)) == 0:
            retire_range(shared, u64(0), ram + done, chunk)
        done += chunk
    shared.release()


@native
def protect_page(shared: Shared, ram: u64) -> None:
    """From now on, stores to the page are noted. The lock is held."""
    clean = shared.code_clean + (ram >> PAGE_SHIFT)
    if host_load(u8, clean) == 0:
        return
    host_store(clean, u8(0))
    shared.epoch += 1  # vCPUs in other address spaces see it when they come back
    fence()
    number = u32(0)
    while number < shared.cpu_count:
        watch_ram(Space.at(CpuState.at(shared.cpus[number]).space), ram & ~0xFFF)
        number += 1
    fence()
