/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_alu.c - see insn_alu.h.  Flags: SDM 1 "EFLAGS Register", and the page of each instruction. */
#include "kernel/run/insn_alu.h"

#include "kernel/lib/log.h"

#define RESULT_FLAGS (FLAG_PF | FLAG_ZF | FLAG_SF)
#define ARITH        (FLAG_CF | FLAG_AF | FLAG_OF | RESULT_FLAGS)

static void flags_put(uint64_t *rflags, uint64_t which, uint64_t val) { *rflags = (*rflags & ~which) | (val & which); }

static bool sign_of(uint64_t a, unsigned bits) { return a >> (bits - 1) & 1; }

static uint64_t flags_of_result(uint64_t r, unsigned bits)
{
    ASSERT(bits >= 8 && bits <= 64);
    r &= alu_mask(bits);
    uint8_t low = (uint8_t)r;
    low ^= low >> 4, low ^= low >> 2, low ^= low >> 1;
    return (r == 0 ? FLAG_ZF : 0) | (sign_of(r, bits) ? FLAG_SF : 0) | (low & 1 ? 0 : FLAG_PF);
}

static uint64_t add_flags(uint64_t a, uint64_t b, uint64_t carry, unsigned bits, uint64_t *flags)
{
    uint64_t m = alu_mask(bits), r = (a + b + carry) & m;
    a &= m, b &= m;
    bool out = carry ? r <= a : r < a;
    *flags = flags_of_result(r, bits) | (out ? FLAG_CF : 0) | ((a ^ b ^ r) & 0x10 ? FLAG_AF : 0) |
             (sign_of((a ^ r) & (b ^ r), bits) ? FLAG_OF : 0);
    return r;
}

static uint64_t sub_flags(uint64_t a, uint64_t b, uint64_t borrow, unsigned bits, uint64_t *flags)
{
    uint64_t m = alu_mask(bits), r = (a - b - borrow) & m;
    a &= m, b &= m;
    bool out = borrow ? a <= b : a < b;
    *flags = flags_of_result(r, bits) | (out ? FLAG_CF : 0) | ((a ^ b ^ r) & 0x10 ? FLAG_AF : 0) |
             (sign_of((a ^ b) & (a ^ r), bits) ? FLAG_OF : 0);
    return r;
}

/* INC and DEC keep CF, NOT keeps all flags. */
bool alu_compute(ZydisMnemonic m, uint64_t a, uint64_t b, unsigned bits, uint64_t *rflags, uint64_t *res)
{
    uint64_t carry = *rflags & FLAG_CF, flags = 0, which = ARITH;
    switch (m) {
    case ZYDIS_MNEMONIC_ADD:  *res = add_flags(a, b, 0, bits, &flags); break;
    case ZYDIS_MNEMONIC_ADC:  *res = add_flags(a, b, carry, bits, &flags); break;
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_SUB:  *res = sub_flags(a, b, 0, bits, &flags); break;
    case ZYDIS_MNEMONIC_SBB:  *res = sub_flags(a, b, carry, bits, &flags); break;
    case ZYDIS_MNEMONIC_INC:  *res = add_flags(a, 1, 0, bits, &flags), which &= ~FLAG_CF; break;
    case ZYDIS_MNEMONIC_DEC:  *res = sub_flags(a, 1, 0, bits, &flags), which &= ~FLAG_CF; break;
    case ZYDIS_MNEMONIC_NEG:  *res = sub_flags(0, a, 0, bits, &flags); break;
    case ZYDIS_MNEMONIC_NOT:  *res = ~a, which = 0; break;
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_AND:  *res = a & b, flags = flags_of_result(*res, bits); break;
    case ZYDIS_MNEMONIC_OR:   *res = a | b, flags = flags_of_result(*res, bits); break;
    case ZYDIS_MNEMONIC_XOR:  *res = a ^ b, flags = flags_of_result(*res, bits); break;
    default:                  return false;
    }
    flags_put(rflags, which, flags);
    return true;
}

uint64_t alu_bit(ZydisMnemonic m, uint64_t a, unsigned n, uint64_t *rflags)
{
    uint64_t bit = BIT64(n);
    flags_put(rflags, FLAG_CF, a & bit ? FLAG_CF : 0);
    switch (m) {
    case ZYDIS_MNEMONIC_BTS: return a | bit;
    case ZYDIS_MNEMONIC_BTR: return a & ~bit;
    case ZYDIS_MNEMONIC_BTC: return a ^ bit;
    default:                 return a; /* BT */
    }
}

static bool shifts_left(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_ROL || m == ZYDIS_MNEMONIC_RCL || m == ZYDIS_MNEMONIC_SHL || m == ZYDIS_MNEMONIC_SHLD;
}

/* The bit that comes in on the other side, when bit `out` leaves. */
static bool shift_in(ZydisMnemonic m, bool out, bool carry, bool sign, bool from_fill)
{
    switch (m) {
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:  return out;
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:  return carry;
    case ZYDIS_MNEMONIC_SAR:  return sign;
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: return from_fill;
    default:                  return false; /* SHL, SHR */
    }
}

/* Bit by bit, 63 at most: each kind differs only in the bit that comes in.  CF is the last bit that left; OF, as the
 * processor computes it for a count of 1, is the sign against CF (left) or against the bit below (right). */
uint64_t alu_shift(ZydisMnemonic m, uint64_t a, uint64_t fill, unsigned count, unsigned bits, uint64_t *rflags)
{
    bool left = shifts_left(m), carry = *rflags & FLAG_CF;
    count &= bits == 64 ? 63 : 31;
    if (!count)
        return a;
    a &= alu_mask(bits);
    for (unsigned i = 0; i < count; i++) {
        bool sign = sign_of(a, bits), out = left ? sign : a & 1, from_fill = left ? sign_of(fill, bits) : fill & 1;
        uint64_t in = shift_in(m, out, carry, sign, from_fill);
        a = left ? (a << 1 | in) & alu_mask(bits) : a >> 1 | in << (bits - 1);
        fill = left ? fill << 1 : fill >> 1;
        carry = out;
    }
    bool rotates =
        m == ZYDIS_MNEMONIC_ROL || m == ZYDIS_MNEMONIC_ROR || m == ZYDIS_MNEMONIC_RCL || m == ZYDIS_MNEMONIC_RCR;
    bool overflow = sign_of(a, bits) != (left ? carry : sign_of(a << 1, bits));
    flags_put(rflags, FLAG_CF | FLAG_OF | (rotates ? 0 : RESULT_FLAGS),
              (carry ? FLAG_CF : 0) | (overflow ? FLAG_OF : 0) | flags_of_result(a, bits));
    return a;
}

static unsigned lowest_bit(uint64_t a)
{
    unsigned n = 0;
    while (!(a >> n & 1))
        n++;
    return n;
}
static unsigned highest_bit(uint64_t a)
{
    unsigned n = 63;
    while (!(a >> n & 1))
        n--;
    return n;
}
static unsigned count_bits(uint64_t a)
{
    unsigned n = 0;
    for (; a; a &= a - 1)
        n++;
    return n;
}

bool alu_scan(ZydisMnemonic m, uint64_t a, unsigned bits, uint64_t *rflags, uint64_t *res)
{
    a &= alu_mask(bits);
    switch (m) {
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
        flags_put(rflags, FLAG_ZF, a ? 0 : FLAG_ZF);
        if (a)
            *res = m == ZYDIS_MNEMONIC_BSF ? lowest_bit(a) : highest_bit(a);
        return a;
    case ZYDIS_MNEMONIC_POPCNT:
        *res = count_bits(a);
        flags_put(rflags, ARITH, a ? 0 : FLAG_ZF);
        return true;
    default: /* TZCNT, LZCNT */
        *res = !a ? bits : m == ZYDIS_MNEMONIC_TZCNT ? lowest_bit(a) : bits - 1 - highest_bit(a);
        flags_put(rflags, FLAG_CF | FLAG_ZF, (a ? 0 : FLAG_CF) | (*res ? 0 : FLAG_ZF));
        return true;
    }
}

/* CF and OF: the upper half is more than the lower half's extension.  The rest is undefined, and stays. */
void alu_mul(uint64_t a, uint64_t b, bool is_signed, unsigned bits, uint64_t *rflags, uint64_t *low, uint64_t *high)
{
    unsigned __int128 p;
    if (is_signed)
        p = (unsigned __int128)((__int128)(int64_t)alu_sign_extend(a, bits) * (int64_t)alu_sign_extend(b, bits));
    else
        p = (unsigned __int128)(a & alu_mask(bits)) * (b & alu_mask(bits));
    *low = (uint64_t)p & alu_mask(bits);
    *high = (uint64_t)(p >> bits) & alu_mask(bits);
    uint64_t extension = is_signed && sign_of(*low, bits) ? alu_mask(bits) : 0;
    flags_put(rflags, FLAG_CF | FLAG_OF, *high != extension ? FLAG_CF | FLAG_OF : 0);
}

/* high:low / d, all unsigned, high < d: bit by bit, since this program has no library for 128-bit division. */
static uint64_t div_unsigned(uint64_t high, uint64_t low, uint64_t d, unsigned bits, uint64_t *rem)
{
    uint64_t quot = 0;
    for (unsigned i = bits; i--;) {
        bool out = sign_of(high, bits);
        high = (high << 1 | (low >> i & 1)) & alu_mask(bits);
        quot <<= 1;
        if (out || high >= d) {
            high = (high - d) & alu_mask(bits);
            quot |= 1;
        }
    }
    *rem = high;
    return quot;
}

bool alu_div(uint64_t high, uint64_t low, uint64_t d, bool is_signed, unsigned bits, uint64_t *quot, uint64_t *rem)
{
    uint64_t m = alu_mask(bits);
    high &= m, low &= m, d &= m;
    bool neg_n = is_signed && sign_of(high, bits), neg_d = is_signed && sign_of(d, bits), neg_q = neg_n != neg_d;
    if (neg_n) {
        low = (0 - low) & m;
        high = (~high + !low) & m;
    }
    if (neg_d)
        d = (0 - d) & m;
    if (high >= d) /* also d == 0 */
        return false;
    *quot = div_unsigned(high, low, d, bits, rem);
    if (is_signed && *quot > (m >> 1) + neg_q)
        return false;
    *quot = (neg_q ? 0 - *quot : *quot) & m;
    *rem = (neg_n ? 0 - *rem : *rem) & m;
    return true;
}

bool alu_condition(unsigned cc, uint64_t rflags)
{
    bool cf = rflags & FLAG_CF, zf = rflags & FLAG_ZF, sf = rflags & FLAG_SF, of = rflags & FLAG_OF, is = false;
    switch (cc >> 1 & 7) {
    case 0: is = of; break;
    case 1: is = cf; break;
    case 2: is = zf; break;
    case 3: is = cf || zf; break;
    case 4: is = sf; break;
    case 5: is = rflags & FLAG_PF; break;
    case 6: is = sf != of; break;
    case 7: is = zf || sf != of; break;
    }
    return is != (cc & 1);
}
