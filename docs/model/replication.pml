/* Torc: one shard's replication as a model for spin. Three replicas, a metastore with compare-and-swap,
 * a network that loses, delays, reorders and duplicates, leases, crashes. Safety only; docs/model/README.md
 * is the manual: what stands for what, how to run it, which mistake (-DBUG=n) is found by what.
 *
 * Network   What the primary of epoch e has sent is PL(e), pn[e], and so on; what replica b has acknowledged
 *           in e is AM(e,b) with its copy. A receiver looks when it is scheduled, perhaps never: loss, delay,
 *           repetition and disorder cost no step of their own.
 * Record    cp, cb, cs, CC: the record of every epoch. A proposer learns of its outcome by reading the record like
 *           everybody, perhaps never. A read's answer may be late: of any epoch since the reader's start (since[r]).
 *           A compare-and-swap is executed when it is minted: one executed later equals one minted later, as long as
 *           its proposer lives. -DLATE splits the two, so that the proposer may have died in between.
 * Time      is no number. lease[p] has b: p still counts b's promise. The bit may go at any moment, and with it
 *           what b is bound by: the earliest moment that lease arithmetic (L2) allows. pair[b] has p: b remembers in
 *           this life that it promised p. bound[b] has p: b waits for that promise before it serves (L4, L5).
 * Log       a record is 8 * epoch + number; number 0 is the EPOCH record, the others are writes.
 *
 * -DDISK    `durable`: a flush brings memory to disk, marks are those of the disk, a crash goes back to it. A learner
 *           may take a base. Without it `replicated`: a crash loses all, and the replica comes back as a new copy.
 * -DMAXE=n -DMAXW=n -DMAXC=n   last epoch, writes, crashes (-DMAXT=0: no transfers)    -DMINI=n   min_in_sync
 * -DSTART=3 replica 2 begins as a learner with an empty log (7: all are members)
 * -DMARKS   commit marks reach the backups       -DREADS   a read arrives, is admitted and answered in three steps
 * -DFIXED   sets change by takeovers only
 * -DNOLEASES   nobody promises anything, so only sole members read: fewer states, for mistakes of the log
 * -DCOVER=n n: a situation that must be reached (the run must fail)              -DBUG=n   a rule is left out
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef COVER
#define COVER 0
#endif
#ifndef MAXE
#define MAXE 3
#endif
#ifndef MAXW
#define MAXW 1
#endif
#ifndef MAXC
#define MAXC 1
#endif
#ifndef MAXT
#define MAXT 1
#endif
#ifndef MINI
#define MINI 1
#endif
#ifndef START
#define START 7
#endif

#define N 3
#define ALL 7
#define LMAX (MAXW + MAXE - 1) /* each epoch but the first begins with a record */
#define BIT(x) (1 << (x))
#define HAS(set,x) (((set) >> (x)) & 1)
#define IN(set,of) (((set) & (of)) == (set))
#define COUNT(set) (HAS(set,0) + HAS(set,1) + HAS(set,2))
#define EPOCHREC(e) (8 * (e))
#define EPOCHOF(record) ((record) >> 3)

#define LG(r,i) lg[(r)*LMAX+(i)]
#define DL(r,i) dl[(r)*LMAX+(i)]
#define PL(e,i) pl[(e)*LMAX+(i)]
#define AM(e,b) am[(e)*N+(b)]
#define AC(e,b) ac[(e)*N+(b)]
#define CC(e,b) cc[(e)*N+(b)]
#ifdef DISK
#define COPY(r) 1 /* 0 in an acknowledgement: none */
#else
#define COPY(r) (boot[r] + 1)
#endif

/* -- The metastore ----------------------------------------------------------------------------------------- */
byte rec = 1;                 /* epoch of the record */
byte cp[MAXE+1], cb[MAXE+1];  /* primary, its boot */
byte cs[MAXE+1];              /* in-sync set */
byte cc[(MAXE+1)*N];          /* copies of the members */
#ifdef LATE
/* the proposal of a node that may still be executed: expected epoch (0: none), set, boot, the joiner's copy */
byte qe[N], qs[N], qb[N], qj[N];
bit  op[N];                   /* whether its proposer lives and does not know the outcome */
#endif

/* -- Replicas ---------------------------------------------------------------------------------------------- */
byte ep[N] = 1;               /* adopted epoch; 0: has read no record since its start */
bit  syn[N] = 1;              /* the log is reconciled with the epoch's primary */
byte role[N];                 /* 0 backup or learner, 1 candidate, 2 active */
byte ln[N], cm[N], lg[N*LMAX];
byte boot[N];
byte jm[N], jc[N];            /* whom the open proposal would let join, with what copy */
byte since[N];                /* epoch of the record when it started, until it has adopted one */
byte rel[N];                  /* released for this epoch by a TRANSFER (X1) */
#ifdef DISK
byte dn[N], dl[N*LMAX];       /* on disk */
#endif
byte lease[N], bound[N];
#if BUG == 9 || BUG == 37
byte pair[N];
#define PAIR(b) pair[b]
#else
#define PAIR(b) (HAS(lease[0],b) | (HAS(lease[1],b) << 1) | (HAS(lease[2],b) << 2))
#endif

/* -- The network, by epoch --------------------------------------------------------------------------------- */
bit  px[MAXE+1], pa[MAXE+1];  /* EPOCH was sent; by an active primary */
byte pn[MAXE+1], pl[(MAXE+1)*LMAX];
byte am[(MAXE+1)*N], ac[(MAXE+1)*N];
byte tm[MAXE+1];              /* TRANSFER was sent to node tm - 1 */
#ifdef MARKS
byte pc[MAXE+1];
#endif

/* -- Ghosts and bounds ------------------------------------------------------------------------------------- */
byte gl, g[LMAX];             /* what was committed anywhere */
byte al;                      /* up to where an active primary committed: answered, or seen by readers */
byte nw, nc, nt;              /* writes, crashes, transfers */
#ifdef READS
byte ra[N];                   /* a read waits, which must see as many records; 255: none */
bit  ok[N];                   /* a time within the lease was sampled for it */
#endif
#if BUG == 31
bit  bm[N];                   /* the base is only in memory */
#endif
#if COVER
bit  vt, vj, vc, vz, vb, vh;  /* takeover, join, cut, demoted active primary, take back, hand over */
#endif
hidden byte i, j, k, readers;

/* -- Who counts (C1, M2, L3) ------------------------------------------------------------------------------- */
#if BUG == 12
byte left[N];                 /* of an open removal */
#define MEMBERS(r) ((left[r] -> left[r] : cs[ep[r]]) | jm[r])
#else
#define MEMBERS(r) (cs[ep[r]] | jm[r])
#endif
#if BUG == 4
#define ISMEMBER(r,e) HAS(cs[e],r)
#define ACKED(r,b,n) (AC(ep[r],b) && AM(ep[r],b) >= (n))
#else
#define ISMEMBER(r,e) (HAS(cs[e],r) && CC(e,r) == COPY(r))
#define ACKED0(r,e,b,n) (AM(e,b) >= (n) && AC(e,b) == (HAS(cs[ep[r]],b) -> CC(ep[r],b) : jc[r]))
#if BUG == 17
#define OLDACK(r,x,b,n) (ep[r] > x && cp[ep[r]-(x)] == r && ACKED0(r,ep[r]-(x),b,n)) /* sent to it in an earlier epoch */
#define ACKED(r,b,n) (ACKED0(r,ep[r],b,n) || OLDACK(r,1,b,n) || OLDACK(r,2,b,n))
#else
#define ACKED(r,b,n) ACKED0(r,ep[r],b,n)
#endif
#endif
#ifdef DISK
#define OPENED(b) (ep[b] == 1 || (dn[b] > 0 && EPOCHOF(DL(b,(dn[b] > 0 -> dn[b] - 1 : 0))) == ep[b]))
#define OWN(r,n) ((n) == 0 || (dn[r] >= (n) && DL(r,(n)-1) == LG(r,(n)-1)))
#else
#define OWN(r,n) true
#endif
#define FINE(r,b,n,set) (!HAS(set,b) || ((b) == (r) -> OWN(r,n) : ACKED(r,b,n)))
#define ALLACKED(r,n,set) (FINE(r,0,n,set) && FINE(r,1,n,set) && FINE(r,2,n,set))
#define YES(r,b,n,set) (HAS(set,b) && ((b) == (r) -> OWN(r,n) : ACKED(r,b,n)))
#if BUG == 5
#define AGREED(r,n) (2 * (YES(r,0,n,MEMBERS(r)) + YES(r,1,n,MEMBERS(r)) + YES(r,2,n,MEMBERS(r))) > COUNT(MEMBERS(r)))
#elif BUG == 6
#define AGREED(r,n) ALLACKED(r,n,cs[ep[r]])
#else
#define AGREED(r,n) ALLACKED(r,n,MEMBERS(r))
#endif
#if BUG == 10
#define LEASED(r) IN(cs[ep[r]], lease[r] | BIT(r))
#elif BUG == 13
#define LEASED(r) (MEMBERS(r) == BIT(r) || (lease[r] & MEMBERS(r)) != 0)
#elif BUG == 22
#define LEASED(r) true
#else
#define LEASED(r) IN(MEMBERS(r), lease[r] | BIT(r))
#endif
#if BUG == 104
#define STOPPED(r) false
#else
#define STOPPED(r) (tm[ep[r]] != 0) /* X1: it has let go of this epoch */
#endif
#define MAYREAD(r) (role[r] == 2 && !STOPPED(r) && LEASED(r))

inline agree(r,n) {           /* position n, from 0, of r's log is committed */
    if
    :: n < gl -> assert(g[n] == LG(r,n))
    :: n == gl -> g[n] = LG(r,n); gl++
    :: else -> assert(n <= gl)
    fi
}

inline commit_all(r) {
    do :: cm[r] < ln[r] -> agree(r, cm[r]); cm[r]++ :: else -> break od
}

inline answered(r) { if :: al < cm[r] -> al = cm[r] :: else fi }

inline send_mark(r) {
#ifdef MARKS
    pc[ep[r]] = cm[r]
#else
    skip
#endif
}

/* -- Acknowledge (A2, A3) ---------------------------------------------------------------------------------- */
#if BUG == 17
#define HEARS(e) true
#else
#define HEARS(e) (role[cp[e]] >= 1 && ep[cp[e]] == e) /* somebody is there whom acks of e concern */
#endif
inline send_ack(b) { if :: HEARS(ep[b]) -> put_ack(b) :: else fi }
inline put_ack(b) {
#ifdef DISK
#if BUG == 102
    AM(ep[b],b) = (dn[b] < ln[b] -> dn[b] : ln[b]); AC(ep[b],b) = COPY(b)
#else
    if :: OPENED(b) -> AM(ep[b],b) = dn[b]; AC(ep[b],b) = COPY(b) :: else fi
#endif
#else
    AM(ep[b],b) = ln[b]; AC(ep[b],b) = COPY(b)
#endif
}

inline clear_log(r,n) {       /* nothing lies above n */
    j = n; do :: j < LMAX -> LG(r,j) = 0; j++ :: else -> break od; j = 0
}

/* -- Leases ------------------------------------------------------------------------------------------------ */
inline drop_lease(p,b) {
    lease[p] = lease[p] & (ALL - BIT(b)); bound[b] = bound[b] & (ALL - BIT(p));
#if BUG == 9 || BUG == 37
    pair[b] = pair[b] & (ALL - BIT(p))
#endif
}
inline drop_leases(p) { drop_lease(p,0); drop_lease(p,1); drop_lease(p,2) }

inline obey(b) {              /* before b adopts a higher epoch (L4) */
    if
    :: ep[b] > 0 && cp[ep[b]] != b ->
#if BUG == 39
        if :: boot[cp[ep[b]]] != cb[ep[b]] -> bound[b] = 0 :: else fi;
#elif BUG == 21
        bound[b] = 0;
#endif
        bound[b] = bound[b] | (PAIR(b) & BIT(cp[ep[b]]))
    :: else
    fi
}

inline step_down(r) {
#if BUG == 33
    if :: role[r] == 2 -> commit_all(r); answered(r) :: else fi;
#endif
#ifndef MARKS
    cm[r] = 0;                /* the worst for a backup: no mark ever reaches it */
#endif
#if COVER
    if :: role[r] == 2 -> vz = 1 :: else fi;
#endif
    drop_leases(r);
#ifdef READS
    ra[r] = 255; ok[r] = 0;   /* waiting reads are dropped, or refused */
#endif
    role[r] = 0;
    close(r)
}

inline close(r) {             /* no proposal is open any more */
    jm[r] = 0; jc[r] = 0;
#ifdef LATE
    op[r] = 0;
#endif
#if BUG == 12
    left[r] = 0;
#endif
}

inline entered(r) {           /* after an adoption: forget what has no effect any more */
#if BUG != 43
    if :: rel[r] < ep[r] -> rel[r] = 0 :: else fi;
#endif
    since[r] = 0;
    tidy()
}

inline tidy() {
#ifdef LATE
    i = 0;
    do
    :: i < N -> if :: qe[i] && qe[i] < rec -> qe[i] = 0; qs[i] = 0; qb[i] = 0; qj[i] = 0 :: else fi; i++
    :: else -> break
    od;
#endif
#if BUG != 8 && BUG != 14 && BUG != 15 && BUG != 17
    k = rec;
    i = 0;
    do
    :: i < N ->
        if :: ep[i] && ep[i] < k -> k = ep[i] :: else fi;
        if :: since[i] && since[i] < k -> k = since[i] :: else fi;
        i++
    :: else -> break
    od;
    i = 1;
    do
    :: i < k && px[i] + cs[i] ->
        px[i] = 0; pa[i] = 0; pn[i] = 0; tm[i] = 0; cp[i] = 0; cb[i] = 0; cs[i] = 0;
        AM(i,0) = 0; AM(i,1) = 0; AM(i,2) = 0; AC(i,0) = 0; AC(i,1) = 0; AC(i,2) = 0;
        CC(i,0) = 0; CC(i,1) = 0; CC(i,2) = 0;
#ifdef MARKS
        pc[i] = 0;
#endif
        j = 0; do :: j < LMAX -> PL(i,j) = 0; j++ :: else -> break od; i++
    :: i < k && !(px[i] + cs[i]) -> i++
    :: i >= k && i <= rec ->  /* acknowledgements whose primary is gone */
        if
        :: px[i] && !HEARS(i) -> AM(i,0) = 0; AM(i,1) = 0; AM(i,2) = 0; AC(i,0) = 0; AC(i,1) = 0; AC(i,2) = 0
        :: else
        fi;
        i++
    :: else -> break
    od;
#endif
    i = 0; j = 0; k = 0
}

/* -- Proposals (M2, M7) ------------------------------------------------------------------------------------ */
/* Members 1 and 2 are alike at the start: of two runs that differ in nothing else, one is enough. */
#define UNLIKE(r,set) (START == 3 || rec > 1 || ((r) != 2 && ((r) != 0 || (set) != 5)))
#define MAYMINT(r,set) (ep[r] == rec && rec < MAXE && UNLIKE(r,set))

inline record(r,set,b,copy) { /* the compare-and-swap at the metastore */
    rec++;
    cp[rec] = r; cb[rec] = b; cs[rec] = set;
    i = 0;
    do                        /* who is no member has no copy; a joiner has that of its acknowledgements */
    :: i < N ->
        if
        :: !HAS(set,i) -> CC(rec,i) = 0
        :: HAS(set,i) && HAS(cs[rec-1],i) -> CC(rec,i) = CC(rec-1,i)
        :: else -> CC(rec,i) = (BUG == 3 -> COPY(i) : copy)
        fi;
        i++
    :: else -> break
    od;
    i = 0;
    tidy()
}

#ifdef LATE
#define FREE(r) (!op[r])
inline mint(r,set,copy) { op[r] = 1; qe[r] = ep[r]; qs[r] = set; qb[r] = boot[r]; qj[r] = copy }
inline execute(r) { d_step { qe[r] == rec && rec < MAXE -> record(r,qs[r],qb[r],qj[r]) } }
#else
#define FREE(r) true          /* after one, the record is ahead of the epoch */
inline mint(r,set,copy) { record(r,set,boot[r],copy) }
#endif

#if BUG == 3
#define MAYTAKE(r) true
#else
#define MAYTAKE(r) ISMEMBER(r,ep[r])
#endif

inline take_over(r,set) {     /* T1 to T3; synced or not */
    d_step { role[r] == 0 && ep[r] > 0 && MAYMINT(r,set) && FREE(r) && MAYTAKE(r) &&
        (BUG == 3 || IN(set,cs[ep[r]])) ->
        k = set; mint(r,k,0); k = 0 }
}

inline shrink(r,set) {        /* C5, T6, and who is surplus */
#if BUG == 12
    d_step { role[r] >= 1 && left[r] == 0 && (set) != cs[ep[r]] && IN(set,cs[ep[r]]) -> left[r] = set }
#else
    d_step { role[r] >= 1 && MAYMINT(r,set) && FREE(r) && !STOPPED(r) && (set) != cs[ep[r]] && IN(set,cs[ep[r]]) ->
        k = set; mint(r,k,0); k = 0 }
#endif
}

inline join(r,b) {            /* J3. Whether b has promised is not asked: it saves a pause, no more */
    d_step { role[r] == 2 && MAYMINT(r,cs[ep[r]] | BIT(b)) && FREE(r) && !STOPPED(r) && !HAS(cs[ep[r]],b) &&
        AC(ep[r],b) && (BUG == 36 || AM(ep[r],b) >= cm[r]) ->
        jm[r] = BIT(b); jc[r] = AC(ep[r],b);
        mint(r,(cs[ep[r]] | jm[r]),jc[r]) }
}

/* -- Adopting ---------------------------------------------------------------------------------------------- */
inline publish(r) {
    px[ep[r]] = 1; pn[ep[r]] = ln[r]; send_mark(r);
    i = 0; do :: i < ln[r] -> PL(ep[r],i) = LG(r,i); i++ :: else -> break od; i = 0
}

inline lead(r,e) {            /* T4, A1, L6 */
    obey(r);
#if COVER
    if
    :: role[r] == 2 && HAS(cs[e] - (cs[e] & cs[ep[r]]),0) + HAS(cs[e] - (cs[e] & cs[ep[r]]),1) +
       HAS(cs[e] - (cs[e] & cs[ep[r]]),2) > 0 -> vj = 1
    :: role[r] == 2 && tm[ep[r]] != 0 -> vb = 1
    :: else
    fi;
#endif
    if
    :: role[r] == 2 -> assert(e == ep[r] + 1); pa[e] = 1
    :: else -> role[r] = 1;
        drop_leases(r)
    fi;
    ep[r] = e; syn[r] = 1;
    close(r);
    LG(r,ln[r]) = EPOCHREC(e); ln[r]++;
    publish(r)
}

inline follow(r,e,s) { obey(r); step_down(r); ep[r] = e; syn[r] = s }

inline answer(r,e) {          /* a read of the record is answered (M1), perhaps late */
    d_step { e > ep[r] && e <= rec && e >= since[r] ->
        if
        :: cp[e] == r && cb[e] == boot[r] && ep[r] > 0 -> lead(r,e)
        :: else -> follow(r,e,0)
        fi;
        entered(r) }
}

inline adopt(b,e) {           /* EPOCH(e), as old as can be, reaches b (T5, J1) */
    d_step { px[e] && cp[e] != b && ep[b] > 0 && (ISMEMBER(b,e) || pa[e]) &&
        (e > ep[b] || (e == ep[b] && role[b] == 0 && (!syn[b] || BUG == 42))) ->
        if :: e > ep[b] -> follow(b,e,1) :: else -> syn[b] = 1 fi;
        i = ln[b];
#if BUG == 7
        i = cm[b];
#elif BUG != 16
        if
#if BUG != 42
        :: ln[b] > 0 && EPOCHOF(LG(b,(ln[b] > 0 -> ln[b] - 1 : 0))) == e /* came after that message: stays */
#endif
        :: else ->
            k = 0;            /* length of the sender's log when it wrote EPOCH */
            do :: k < pn[e] && EPOCHOF(PL(e,k)) < e -> k++ :: else -> break od;
            if :: k < pn[e] && e > 1 -> k++ :: else fi;
            if :: i > k -> i = k :: else fi;
            do
            :: i > 0 && EPOCHOF(LG(b,i-1)) != EPOCHOF(PL(e,i-1)) -> i--
            :: else -> break
            od;
            j = 0;
            do :: j < i -> assert(LG(b,j) == PL(e,j)); j++ :: else -> break od;
            j = 0
        fi;
#endif
        assert(i >= cm[b]);   /* R2 */
#if COVER
        if :: i < ln[b] -> vc = 1 :: else fi;
#endif
        ln[b] = i;
        clear_log(b,i);
        i = 0; k = 0;
        send_ack(b);
        entered(b) }
}

/* -- Promises ---------------------------------------------------------------------------------------------- */
#if BUG == 20 || BUG == 37
#define MAYPROMISE(p,b) (ep[b] >= ep[p]) /* with the exceptions, or without them published */
#else
#define MAYPROMISE(p,b) (ep[b] == ep[p] && syn[b])
#endif
inline beat(p,b) {            /* b answers a beat of p, p counts the answer (L1, L2) */
    d_step { role[p] >= 1 && role[b] == 0 && p != b && !HAS(lease[p],b) && HAS(MEMBERS(p),b) && MAYPROMISE(p,b) ->
        lease[p] = lease[p] | BIT(b);
#if BUG == 37
        if :: ep[b] == ep[p] && syn[b] -> pair[b] = pair[b] | BIT(p) :: else fi
#else
#if BUG == 9
        pair[b] = pair[b] | BIT(p)
#endif
#endif
    }
}

inline expire(p,b) { d_step { HAS(lease[p],b) -> drop_lease(p,b) } }

#if BUG == 1
#define WAITED(r) true
#elif BUG == 43
#define WAITED(r) (bound[r] == 0 || rel[r] != 0)
#else
#define WAITED(r) (bound[r] == 0 || rel[r] == ep[r])
#endif

/* -- Transfer (X1) ----------------------------------------------------------------------------------------- */
inline transfer(r,b) {        /* all members have all: r stops, and sends TRANSFER */
    d_step { role[r] == 2 && nt < MAXT && ep[r] < MAXE && FREE(r) && tm[ep[r]] == 0 &&
        HAS(cs[ep[r]],b) && cm[r] == ln[r] && ALLACKED(r,ln[r],cs[ep[r]]) ->
        nt++; tm[ep[r]] = b + 1 }
}

inline receive(b) {           /* b has all as well: the release, and the compare-and-swap */
    d_step { ep[b] > 0 && tm[ep[b]] == b + 1 && role[b] == 0 && syn[b] && ISMEMBER(b,ep[b]) && ln[b] == pn[ep[b]] &&
        rel[b] != ep[b] + 1 ->
        rel[b] = ep[b] + 1;
        if :: MAYMINT(b,cs[ep[b]]) && FREE(b) -> k = cs[ep[b]]; mint(b,k,0); k = 0 :: else fi }
}

inline take_back(r) {
    d_step { role[r] == 2 && tm[ep[r]] != 0 && MAYMINT(r,cs[ep[r]]) && FREE(r) -> k = cs[ep[r]]; mint(r,k,0); k = 0 }
}

/* -- Disk, crash ------------------------------------------------------------------------------------------- */
#ifdef DISK
inline flush(r) {             /* a cut is on disk with the EPOCH record that stands in its place (A1) */
    d_step { ep[r] > 0 && ln[r] > 0 && DL(r,ln[r]-1) != LG(r,ln[r]-1) ->
        i = 0;
        do
        :: i < LMAX ->
#if BUG == 32
            if :: i < ln[r] -> DL(r,i) = LG(r,i) :: else fi;
#else
            DL(r,i) = LG(r,i);
#endif
            i++
        :: else -> break
        od;
        i = 0;
#if BUG == 32
        if :: dn[r] < ln[r] -> dn[r] = ln[r] :: else fi;
#else
        dn[r] = ln[r];
#endif
        if :: role[r] == 0 && syn[r] -> send_ack(r) :: else fi }
}

inline take_base(b) {         /* J1, J2: a learner begins anew with what is committed */
    d_step { ep[b] > 0 && role[b] == 0 && !ISMEMBER(b,ep[b]) && pa[ep[b]] && cp[ep[b]] != b &&
        role[cp[ep[b]]] == 2 && ep[cp[ep[b]]] == ep[b] && !syn[b] ->
        syn[b] = 1;
        ln[b] = cm[cp[ep[b]]];
        clear_log(b,0);
        i = 0;
        do :: i < ln[b] -> LG(b,i) = PL(ep[b],i); i++ :: else -> break od;
        i = 0;
        do :: i < LMAX -> DL(b,i) = 0; i++ :: else -> break od;
        i = 0;
        dn[b] = 0;
#if BUG == 31
        bm[b] = 1
#endif
    }
}
#endif

inline crash(r) {
    d_step { nc < MAXC ->
        nc++;
        boot[r]++;
        since[r] = rec; rel[r] = 0;
#if BUG == 14
        if
        :: role[r] == 2 -> close(r); drop_leases(r) /* goes on in its epoch */
        :: else -> step_down(r); ep[r] = 0; syn[r] = 0
        fi;
#else
        step_down(r); syn[r] = 0;
        ep[r] = (BUG == 15 -> 1 : 0); /* 15: acknowledges before it has read the record */
#endif
        cm[r] = 0;
#if BUG == 9
        pair[r] = 0;
        bound[r] = 0;
#else
        bound[r] = PAIR(r);   /* L5 */
#endif
#ifdef DISK
#if BUG == 31
        if
        :: bm[r] -> bm[r] = 0; dn[r] = 0; i = 0; do :: i < LMAX -> DL(r,i) = 0; i++ :: else -> break od; i = 0
        :: else
        fi;
#endif
        ln[r] = dn[r];
        i = 0; do :: i < LMAX -> LG(r,i) = DL(r,i); i++ :: else -> break od;
        i = 1;                /* what was cut does not come back */
        do :: i < ln[r] -> assert(EPOCHOF(LG(r,i-1)) <= EPOCHOF(LG(r,i))); i++ :: else -> break od;
        i = 0;
#else
        ln[r] = 0;
        clear_log(r,0);
#endif
        tidy() }
}

/* -- A node ------------------------------------------------------------------------------------------------ */
#define R1 ((r + 1) % N)
#define R2 ((r + 2) % N)

proctype node(byte r) {
end: do
    /* a write is appended and sent (C2) */
    :: d_step { role[r] == 2 && !STOPPED(r) && nw < MAXW && COUNT(cs[ep[r]]) >= MINI ->
        nw++; LG(r,ln[r]) = EPOCHREC(ep[r]) + nw; PL(ep[r],ln[r]) = LG(r,ln[r]); ln[r]++; pn[ep[r]] = ln[r] }
    /* the next record is committed, and answered (C1, C4) */
    :: d_step { role[r] == 2 && cm[r] < ln[r] && AGREED(r, cm[r] + 1) && COUNT(cs[ep[r]]) >= MINI ->
        agree(r, cm[r]); cm[r]++; answered(r); send_mark(r) }
    /* a candidate commits its tail, the EPOCH record being the last (T7) */
    :: d_step { role[r] == 1 && cm[r] < ln[r] && BUG != 11 && AGREED(r, ln[r]) &&
        (BUG != 29 || COUNT(cs[ep[r]]) >= MINI) ->
        commit_all(r); send_mark(r) }
    /* and serves */
    :: d_step { role[r] == 1 && WAITED(r) && (cm[r] == ln[r] || BUG == 2 || (BUG == 11 && AGREED(r, ln[r])) ||
        (BUG == 29 && COUNT(cs[ep[r]]) < MINI)) ->
#if BUG == 2
        commit_all(r);
#endif
        role[r] = 2; pa[ep[r]] = 1; answered(r);
#if COVER
        vt = 1;
        if :: rel[r] == ep[r] && bound[r] != 0 -> vh = 1 :: else fi
#endif
    }
    /* a backup or learner takes the next record of its epoch (A2) */
    :: d_step { role[r] == 0 && ep[r] > 0 && syn[r] && ln[r] < pn[ep[r]] ->
        LG(r,ln[r]) = PL(ep[r],ln[r]); ln[r]++; send_ack(r) }
#if BUG == 8
    :: d_step { ep[r] > 1 && px[ep[r]-1] && cp[ep[r]-1] != r && pn[ep[r]-1] <= ln[r] && AM(ep[r]-1,r) < pn[ep[r]-1] ->
        AM(ep[r]-1,r) = pn[ep[r]-1]; AC(ep[r]-1,r) = COPY(r) }
#endif
#ifdef MARKS
    :: d_step { role[r] == 0 && ep[r] > 0 && syn[r] && cm[r] < ln[r] && cm[r] < pc[ep[r]] -> agree(r, cm[r]); cm[r]++ }
#endif
    :: adopt(r,1)
    :: adopt(r,2)
#if MAXE > 2
    :: adopt(r,3)
#endif
#if MAXE > 3
    :: adopt(r,4)
#endif
#if MAXE > 4
    :: adopt(r,5)
#endif
    :: answer(r,1)
    :: answer(r,2)
#if MAXE > 2
    :: answer(r,3)
#endif
#if MAXE > 3
    :: answer(r,4)
#endif
#if MAXE > 4
    :: answer(r,5)
#endif
#ifndef NOLEASES
    :: beat(r,R1)
    :: beat(r,R2)
    :: expire(r,R1)
    :: expire(r,R2)
#endif
    :: take_over(r, BIT(r))
    :: take_over(r, BIT(r) | BIT(R1))
    :: take_over(r, BIT(r) | BIT(R2))
    :: take_over(r, ALL)
#ifndef FIXED
    :: shrink(r, BIT(r))
    :: shrink(r, BIT(r) | BIT(R1))
    :: shrink(r, BIT(r) | BIT(R2))
    :: join(r,R1)
    :: join(r,R2)
#endif
#ifdef LATE
    :: execute(r)
#endif
#if MAXT > 0
    :: transfer(r,R1)
    :: transfer(r,R2)
    :: receive(r)
    :: take_back(r)
#endif
#ifdef DISK
    :: flush(r)
    :: take_base(r)
#if BUG == 31
    :: d_step { bm[r] -> bm[r] = 0 }
#endif
#endif
#if BUG == 18 /* and 40: a promise ends before the lease that rests on it */
    :: d_step { bound[r] != 0 -> bound[r] = 0 }
#endif
    :: crash(r)

#if BUG == 101 /* M3 by the epoch that is adopted now: an answer that is merely late raises the alarm */
    :: d_step { ep[r] > 1 && since[r] == 0 && cs[ep[r]-1] != 0 -> k = 1; assert(k == 0) }
#endif

    /* what must never be: a reader without an answered write; two readers */
    :: d_step { MAYREAD(r) && cm[r] < al -> assert(cm[r] >= al) }
    :: d_step { MAYREAD(r) && MAYREAD(R1) -> readers = 2; assert(readers < 2) }
#ifdef READS
    :: d_step { ra[r] == 255 && role[r] == 2 -> ra[r] = al; if :: BUG != 19 -> ok[r] = 0 :: else fi }
    :: d_step { (ra[r] != 255 || BUG == 19) && !ok[r] && MAYREAD(r) -> ok[r] = 1 }
    :: d_step { ra[r] != 255 && ok[r] -> assert(cm[r] >= ra[r]); ra[r] = 255; ok[r] = 0 }
#endif
#if COVER == 1
    :: d_step { vt && vj && vc && vz && gl > 1 && MAYREAD(r) -> assert(false) }
#elif COVER == 2
    :: d_step { vh && MAYREAD(r) && gl > 1 -> assert(false) }
#elif COVER == 3
    :: d_step { vb && vt && MAYREAD(r) -> assert(false) }
#endif
    od
}

init {
    d_step {
        cs[1] = START; CC(1,0) = 1; CC(1,1) = 1; CC(1,2) = HAS(START,2);
        role[0] = 2; px[1] = 1; pa[1] = 1;
        AC(1,1) = 1; AC(1,2) = HAS(START,2); syn[2] = HAS(START,2);
#ifdef READS
        ra[0] = 255; ra[1] = 255; ra[2] = 255;
#endif
    };
    atomic { run node(0); run node(1); run node(2) }
}
