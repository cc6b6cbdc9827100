/* The same checksum, divided among processes on any number of nodes (MPI), each of which divides
   its part among its threads (OpenMP, when compiled with -fopenmp).

   ranks NUMBER */

#include <inttypes.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define COUNT UINT64_C(4000000000)
#define NAME 256

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    int rank, size, threads = 1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (argc != 2) {
        if (rank == 0)
            fprintf(stderr, "usage: ranks NUMBER\n");
        MPI_Finalize();
        return 2;
    }
#ifdef _OPENMP
    threads = omp_get_max_threads();
#endif
    uint64_t number = strtoull(argv[1], NULL, 10), mine = 0, sum = 0;
    uint64_t first = COUNT / size * rank;
    uint64_t last = rank == size - 1 ? COUNT : first + COUNT / size;
#pragma omp parallel for reduction(+ : mine)
    for (uint64_t i = first; i < last; i++) {
        uint64_t x = number * i;
        mine += x * x * x;
    }
    char here[NAME] = "", *all = NULL;
    gethostname(here, NAME - 1);
    if (rank == 0)
        all = malloc((size_t)NAME * size);
    MPI_Reduce(&mine, &sum, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Gather(here, NAME, MPI_CHAR, all, NAME, MPI_CHAR, 0, MPI_COMM_WORLD);
    if (rank == 0) { /* one rank prints for all: lines of several would mix */
        for (int r = 0; r < size; r++)
            printf("rank %d of %d on %s\n", r, size, all + (size_t)NAME * r);
        printf("threads: %d\nchecksum: %" PRIu64 "\n", threads, sum);
        free(all);
    }
    MPI_Finalize();
    return 0;
}
