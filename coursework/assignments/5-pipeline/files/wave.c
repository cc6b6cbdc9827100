/* Adds up (number * i)^3 over a part of the numbers 0 <= i < PARTS * EACH, modulo 2^64.

   wave NUMBER PART      PART is 1, 2 or 3; prints   part PART: SUM
   wave --selftest       checks itself, which takes some seconds */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EACH UINT64_C(3000000000)

static uint64_t add_up(uint64_t number, uint64_t first, uint64_t last)
{
    uint64_t sum = 0;
    for (uint64_t i = first; i < last; i++) {
        uint64_t x = number * i;
        sum += x * x * x;
    }
    return sum;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--selftest") == 0) {
        /* the cubes of 0 ... n-1 add up to (n (n-1) / 2)^2; here n is 4 * 10^9 */
        uint64_t half = UINT64_C(2000000000), odd = UINT64_C(3999999999);
        if (add_up(1, 0, 2 * half) != half * half * odd * odd) {
            fprintf(stderr, "wave: the self-test failed\n");
            return 1;
        }
        printf("the self-test is right\n");
        return 0;
    }
    if (argc != 3) {
        fprintf(stderr, "usage: wave NUMBER PART\n");
        return 2;
    }
    uint64_t number = strtoull(argv[1], NULL, 10), part = strtoull(argv[2], NULL, 10);
    if (part < 1 || part > 3) {
        fprintf(stderr, "wave: PART is 1, 2 or 3\n");
        return 2;
    }
    printf("part %" PRIu64 ": %" PRIu64 "\n", part,
           add_up(number, (part - 1) * EACH, part * EACH));
    return 0;
}
